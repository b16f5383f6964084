"""Whether Optimum reads our ONNX exports and says the same: `make optimum`.

An environment with the last Optimum for ONNX, which needs a transformers below 4.58, made once in a folder; a
tiny base of each kind with an adapter, exported to ONNX and merged; then a fresh process of that environment
answers token ids with `ORTModelForSeq2SeqLM`, greedy and with beams, and transformers with the merged model.

python -m tools.check_optimum --folder .venv-compat
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM

from loraloom.commands.export import export
from tests.commands.trained import train_small
from tests.tiny import make_folder

PACKAGES = ("optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6", "onnxruntime==1.32.0")
# mT5 as mt5-small has it: d_kv is not d_model // heads.
KINDS: dict[str, dict[str, Any]] = {"mt5": {"d_kv": 12}, "t5": {}, "bart": {}}
SOURCES, MASK = [[20, 30, 40, 50, 1], [50, 60, 1, 0, 0]], [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
OPTIONS: list[dict[str, Any]] = [
    {"num_beams": beams, "do_sample": False, "max_new_tokens": 12, "repetition_penalty": 1.0}
    for beams in (1, 3)
]
READER = """
import json, sys
import torch, optimum.version, transformers
from optimum.onnxruntime import ORTModelForSeq2SeqLM
folders, sources, mask, options = map(json.loads, sys.argv[1:])
found = []
for folder in folders:
    model = ORTModelForSeq2SeqLM.from_pretrained(folder)
    given = {"input_ids": torch.tensor(sources), "attention_mask": torch.tensor(mask)}
    found.append([model.generate(**given, **each).tolist() for each in options])
print(json.dumps({"transformers": transformers.__version__, "found": found}))
"""


def environment(folder: Path) -> Path:
    """The Python of an environment with Optimum; made if it is not there."""
    place = folder / "optimum-onnx-0.1.0"
    python = place / "bin" / "python"
    if not (place / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        torch_here = f"torch=={torch.__version__.partition('+')[0]}"
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", torch_here, *PACKAGES], check=True)
        (place / ".installed").touch()
    return python


def answers_of(folder: Path) -> list[list[list[int]]]:
    """What transformers answers with a merged model."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    head, embedding = model.get_output_embeddings(), model.get_decoder().get_input_embeddings()
    model.config.tie_word_embeddings = head.weight is embedding.weight
    given = {"input_ids": torch.tensor(SOURCES), "attention_mask": torch.tensor(MASK)}
    return [model.generate(**given, **each).tolist() for each in OPTIONS]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, required=True, help="where the environment is kept")
    python = environment(arguments.parse_args().folder)
    with tempfile.TemporaryDirectory() as name:
        root, wanted = Path(name), []
        for kind, changes in KINDS.items():
            run = train_small(root / kind, make_folder(root / kind / "base", kind, **changes))
            export(run, root / kind / "onnx", format="onnx")
            export(run, root / kind / "merged", format="transformers")
            wanted.append(answers_of(root / kind / "merged"))
        folders = json.dumps([str(root / kind / "onnx") for kind in KINDS])
        words = [folders, *map(json.dumps, (SOURCES, MASK, OPTIONS))]
        told = subprocess.run(
            [str(python), "-W", "ignore", "-c", READER, *words], stdout=subprocess.PIPE, text=True, check=True
        )
    result = json.loads(told.stdout.splitlines()[-1])
    is_right = True
    for kind, found, own in zip(KINDS, result["found"], wanted, strict=True):
        is_right &= found == own
        verdict = "same answers" if found == own else f"OTHER ANSWERS: {found} instead of {own}"
        print(f"optimum-onnx 0.1.0, transformers {result['transformers']}: {kind}: {verdict}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())

"""Every family at the shape of a real model: three steps, an evaluation, a merge with its proof.

    python -m benchmarks.shapes [NAME …] [--dtype bfloat16] [--scratch FOLDER]

A randomly initialised folder is made in a temporary place and removed again; the largest takes 3 GB there
and 6 GB of memory. One line a model: its weights, the time of the training, the predicted peak over the
one that the kernel counted (both less what imports alone take), the largest difference of a logit between
base + adapter, the merged weights and the saved folder in a new process, all in float32, and how many of
their greedy answers are the same. The exit code is
1 if anything failed, or if a prediction is off by more than 15 %.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.processes import LORALOOM, python, train
from benchmarks.rounds import options_of
from benchmarks.true_shapes import TRUE_SHAPES, TrueShape
from tests.families import TINY_FAMILIES
from tests.tiny import make_folder
from tests.tiny_multilingual import MULTILINGUAL_KINDS, make_multilingual

IMPORTS = "import loraloom.commands.train, loraloom.console"
# Of characters that every tiny tokenizer has, each of which is a token of its own.
ROWS = [
    {
        "instruction": f"我感到焦虑 {number}, how are you {'today ' * (number % 4)}?",
        "output": f"先慢慢来, {number * 7 % 10} 和朋友说 {number}{' 再想一下' * (number % 3)}.",
    }
    for number in range(24)
]
STEPS, ALLOWED_ERROR = 3, 0.15
COLUMNS = ("model", "weights", "train", "predicted / measured", "largest Δlogit", "same answers")


def main() -> None:
    """Measure and print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TRUE_SHAPES))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--scratch", type=Path, help="a folder for the models; by default the system's")
    parser.add_argument("--make", type=Path, help="only make the folder of one model here")
    options = parser.parse_args()
    names = options.names or list(TRUE_SHAPES)
    if unknown := sorted(set(names) - set(TRUE_SHAPES)):
        parser.error(f"unknown: {', '.join(unknown)}")
    if options.make is not None:
        make(TRUE_SHAPES[names[0]], options.make)
        return
    imports = python("-c", IMPORTS).peak_bytes
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            line, is_right = measure(name, TRUE_SHAPES[name], options.dtype, Path(scratch), imports)
        print(line, flush=True)
        failed |= not is_right
    sys.exit(1 if failed else 0)


def make(shape: TrueShape, folder: Path) -> None:
    """A folder of random weights in bfloat16, with the tiny model's tokenizer."""
    torch.set_default_dtype(torch.bfloat16)  # so that a large one needs no more memory than it has to
    maker_of(shape.kind)(folder, shape.kind, **shape.changes)


def maker_of(kind: str) -> Callable[..., Path]:
    """What makes a folder of a kind of tiny model."""
    if kind in MULTILINGUAL_KINDS:
        return make_multilingual
    if kind in TINY_FAMILIES:
        return make_folder
    raise KeyError(kind)


def measure(name: str, shape: TrueShape, dtype: str, scratch: Path, imports: int) -> tuple[str, bool]:
    """A line of the table, and whether all that it says is right."""
    model, run, merged = scratch / "model", scratch / "run", scratch / "merged"
    called = f"{name} ({shape.remark})" if shape.remark else name
    try:
        rows = scratch / "rows.json"
        rows.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
        python("-m", "benchmarks.shapes", name, "--make", model)
        cost = train(recipe(shape, model, rows, dtype), run)
        plan = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["plan"]
        words = [LORALOOM, "merge", run, merged, "--json"]
        done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    except (SystemExit, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"| {called} | failed: {' '.join(said.split())[-300:]} |", False
    proof = json.loads(done.stdout)["proof"]
    merging, reload = proof["merging"], proof["reload"]
    difference = max(merging["max_difference"], reload["max_difference"])
    same = min(merging["num_same_answers"], reload["num_same_answers"])
    ratio = (plan["memory"]["peak_bytes"] - imports) / (cost.peak_bytes - imports)
    cells = (
        called,
        f"{num_weights(merged) / 1e6:,.0f} M",
        f"{cost.seconds:.0f} s",
        f"{ratio:.2f} of {(cost.peak_bytes - imports) / 2**20:,.0f} MiB",
        f"{difference:.1e} of {reload['largest_logit']:.3g}",
        f"{same} of {reload['num_answers']}",
    )
    return f"| {' | '.join(cells)} |", abs(ratio - 1) <= ALLOWED_ERROR


def recipe(shape: TrueShape, model: Path, rows: Path, dtype: str) -> dict[str, Any]:
    """Three steps of an adapter on all linears, and an evaluation."""
    return {
        "model_name_or_path": str(model),
        "data": {
            "train": str(rows),
            "eval": 4,
            "max_source_length": 32,
            "max_target_length": 32,
            **shape.data,
        },
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear"},
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 4,
            "eval_strategy": "steps",
            "eval_steps": STEPS,
            "save_strategy": "no",
        },
        "generation": {"max_new_tokens": 8, "batch_size": 4},
        "dtype": dtype,
        "device": "cpu",
    }


def num_weights(folder: Path) -> int:
    """Of a folder of bfloat16 files: of what is tied, one."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) // torch.bfloat16.itemsize


if __name__ == "__main__":
    main()

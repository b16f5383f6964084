"""Whether older versions of PEFT read our adapters and say the same: `make compat`.

An environment for each version, made once in a folder; a tiny base of each kind, an adapter of ours on it,
the logits of both by our bank; then a fresh process of each environment loads base and adapter.

python -m tools.check_peft_versions --folder .venv-compat
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import write_adapter
from loraloom.base.loading import load_base
from loraloom.data.ownership import Rows
from tests.parity.rig import attach_speaking
from tests.tiny import make_folder

# Each with a transformers of its time. The last is the one that our tests run with.
VERSIONS = {
    "0.10.0": ("transformers==4.40.2", "accelerate==0.30.1", "numpy<2"),
    "0.12.0": ("transformers==4.44.2", "accelerate==0.34.2", "numpy<2"),
    "0.15.0": ("transformers==4.51.3", "accelerate==1.6.0"),
}
KINDS = ("mt5", "t5")
LORA = {
    "all": {"r": 4, "lora_alpha": 8},
    "rslora": {"r": 3, "lora_alpha": 2.5, "use_rslora": True, "target_modules": ["q", "wo"]},
    "paths": {"r": 2, "lora_alpha": 4, "target_modules": ["decoder:q", "cross:k"]},
}
SOURCES, TARGETS = [[20, 30, 40, 1], [50, 60, 70, 1]], [[0, 11, 12], [0, 13, 14]]
TOLERANCE = 1e-5
READER = """
import json, sys
import torch, peft, transformers
from pathlib import Path
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM
root, rows = Path(sys.argv[1]), json.loads(sys.argv[2])
found = {}
for case in sorted(root.glob("*/*/logits.safetensors")):
    expected, folder = load_file(case), case.parent
    base = AutoModelForSeq2SeqLM.from_pretrained(folder.parent / "base").eval()
    ids, start = torch.tensor(rows["sources"]), torch.tensor(rows["targets"])
    with torch.no_grad():
        plain = base(input_ids=ids, decoder_input_ids=start).logits
        model = PeftModel.from_pretrained(base, folder / "adapter").eval()
        said = model(input_ids=ids, decoder_input_ids=start).logits
    wanted = expected["adapter"]
    found[str(folder.relative_to(root))] = {
        "off": float((said - wanted).abs().max() / wanted.abs().max()),
        "moved": float((said - plain).abs().max() / wanted.abs().max()),
    }
print(json.dumps({"versions": [peft.__version__, transformers.__version__], "found": found}))
"""


def make_cases(root: Path) -> None:
    for kind in KINDS:
        base = load_base(str(make_folder(root / kind / "base", kind)), dtype="float32", device="cpu")
        bank = AdapterBank(base)
        for name, lora in LORA.items():
            settings = attach_speaking(bank, name, seed=1, strength=0.3, **lora)
            folder = root / kind / name
            write_adapter(
                folder / "adapter",
                base=base,
                settings=settings,
                tensors=bank.tensors(name),
                available=bank.available,
                origin={},
            )
            with torch.no_grad(), bank.rows(Rows((name,), (len(SOURCES),))):
                logits = base.model(
                    input_ids=torch.tensor(SOURCES), decoder_input_ids=torch.tensor(TARGETS), use_cache=False
                ).logits
            save_file({"adapter": logits.contiguous()}, folder / "logits.safetensors")
            bank.drop(name)


def environment(folder: Path, version: str) -> Path:
    """The Python of an environment with that PEFT; made if it is not there."""
    python = folder / f"peft-{version}" / "bin" / "python"
    done = folder / f"peft-{version}" / ".installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / f"peft-{version}")], check=True)
        torch_here = f"torch=={torch.__version__.partition('+')[0]}"
        packages = [torch_here, f"peft=={version}", *VERSIONS[version], "sentencepiece", "protobuf"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        done.touch()
    return python


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, required=True, help="where the environments are kept")
    folder = arguments.parse_args().folder
    pythons = [*(environment(folder, version) for version in VERSIONS), Path(sys.executable)]
    rows = json.dumps({"sources": SOURCES, "targets": TARGETS})
    is_right = True
    with tempfile.TemporaryDirectory() as root:
        make_cases(Path(root))
        for python in pythons:
            told = subprocess.run(
                [str(python), "-W", "ignore", "-c", READER, root, rows], capture_output=True, text=True
            )
            if told.returncode:
                print(f"{python}: {told.stderr.strip().splitlines()[-1]}")
                is_right = False
                continue
            result = json.loads(told.stdout.splitlines()[-1])
            for case, each in result["found"].items():
                is_same = each["off"] <= TOLERANCE < each["moved"]
                is_right &= is_same
                versions = "peft {}, transformers {}".format(*result["versions"])
                verdict = "same logits" if is_same else "OTHER LOGITS"
                print(f"{versions}: {case}: {verdict}, off by {each['off']:.1e}, moved {each['moved']:.2f}")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())

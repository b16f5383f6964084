"""Predicted and measured peaks: whole processes, as the kernel counted them, less what imports alone take.

    python -m benchmarks.memory [--model starter --data starter] [--model FOLDER --data FILE …]
        [--dtypes float32 bfloat16] [--quantizations none nf4] [--experiments 1 8] [--steps 6] [--with-eval]

The prediction is the one that `train` prints and keeps in provenance.json before its first step. The last
column sets the largest number of experiments beside a single one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import python, train
from benchmarks.rounds import options_of

IMPORTS = "import loraloom.commands.train, loraloom.console"


@dataclass(frozen=True)
class Peak:
    """Of one training, in bytes above what imports take."""

    measured: int
    predicted: int
    phase: str

    @property
    def error(self) -> float:
        """Of the prediction, as a share of what was measured."""
        return self.predicted / self.measured - 1


def main() -> None:
    """Measure and print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--data", action="append", default=[])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--quantizations", nargs="+", default=["none"])
    parser.add_argument("--experiments", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--with-eval", action="store_true", help="evaluate and save every third step")
    options = parser.parse_args()
    models, data = options.model or ["starter"], options.data or ["starter"]
    imports = python("-c", IMPORTS).peak_bytes
    print("| model | dtype | experiments | predicted / measured | phase | to one |")
    print("|---|---|---|---|---|---|")
    for model, rows in zip(models, data, strict=True):
        for dtype, quantization in itertools.product(options.dtypes, options.quantizations):
            alone: int | None = None
            for number in options.experiments:
                values = recipe(options, model, rows, dtype, number) | {"quantization": quantization}
                peak = measure(values, imports)
                alone = alone or peak.measured
                name = Path(model).name
                stored = dtype if quantization == "none" else f"{quantization}, {dtype}"
                print(
                    f"| {name} | {stored} | {number} | {1 + peak.error:.2f} | {peak.phase} "
                    f"| {peak.measured / alone:.2f} |",
                    flush=True,
                )
                print(f"{peak.measured / 2**20:.0f} MiB measured", file=sys.stderr, flush=True)


def recipe(options: argparse.Namespace, model: str, data: str, dtype: str, number: int) -> dict[str, Any]:
    """Experiments of rank 16 on all linears that differ in their learning rate."""
    when = "steps" if options.with_eval else "no"
    training: dict[str, Any] = {
        "max_steps": options.steps,
        "per_device_train_batch_size": options.batch_size,
        "eval_strategy": when,
        "save_strategy": when,
    }
    if options.with_eval:
        training |= {"eval_steps": 3, "save_steps": 3}
    return {
        "model_name_or_path": model,
        "data": {"train": data, "eval": 32 if options.with_eval else 0},
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear"},
        "training": training,
        "experiments": {
            f"e{each}": {"training": {"learning_rate": 1e-4 * (each + 1)}} for each in range(number)
        },
        "dtype": dtype,
    }


def measure(values: dict[str, Any], imports: int) -> Peak:
    """Train in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        measured = train(values, out).peak_bytes
        memory = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["plan"]["memory"]
    return Peak(measured - imports, memory["peak_bytes"] - imports, memory["phase"])


if __name__ == "__main__":
    main()

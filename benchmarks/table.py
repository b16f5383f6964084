"""A table of experiments: in one pass, as separate commands, and as stock scripts; whole processes, in turn.

    python -m benchmarks.table [--experiments 8] [--steps 40] [--rounds 2] [--model starter] [--data starter]

Each side is started as a user would start it, and its start is part of its time. The peak is the largest
of a process, less what the imports alone take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import ProcessCost, python, together, train
from benchmarks.rounds import options_of, ratio
from loraloom.starter import data_file, model_folder

RANKS = (4, 8, 16, 16, 16, 16, 32, 32)
RATES = (1e-3, 1e-3, 3e-4, 1e-3, 2e-3, 3e-3, 1e-3, 2e-3)


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--experiments", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--data", default="starter")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--without-stock", action="store_true")
    options = parser.parse_args()
    names = [f"e{number}" for number in range(options.experiments)]
    imports = python("-c", "import loraloom.commands.train, peft").peak_bytes
    sides: dict[str, list[ProcessCost]] = {"bank": [], "separate": [], "one alone": [], "stock": []}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for number in range(options.rounds):
            out = place / str(number)
            out.mkdir()
            sides["bank"].append(ours(options, names, out / "bank"))
            each = [ours(options, [name], out / name) for name in names]
            sides["separate"].append(together(each))
            sides["one alone"].append(each[len(each) // 2])  # of a middling rank
            if not options.without_stock:
                stock_runs = [stock(options, name, out / f"stock-{name}") for name in names]
                sides["stock"].append(together(stock_runs))
            print(
                {side: round(m[-1].seconds, 1) for side, m in sides.items() if m}, file=sys.stderr, flush=True
            )
    report(sides, imports, options.experiments)


def ours(options: argparse.Namespace, names: list[str], out: Path) -> ProcessCost:
    """`loraloom train` of some experiments."""
    experiments = {
        name: {
            "lora": {"r": RANKS[int(name[1:]) % len(RANKS)]},
            "training": {"learning_rate": RATES[int(name[1:]) % len(RATES)]},
        }
        for name in names
    }
    recipe = {
        "model_name_or_path": options.model,
        "data": {"train": options.data, "eval": 0},
        "lora": {"lora_alpha": 32, "lora_dropout": 0.1},
        "training": {
            "max_steps": options.steps,
            "per_device_train_batch_size": options.batch_size,
            "eval_strategy": "no",
            "save_strategy": "no",
        },
        "experiments": experiments,
        "dtype": options.dtype,
    }
    return train(recipe, out)


def stock(options: argparse.Namespace, name: str, out: Path) -> ProcessCost:
    """The stock script of one experiment."""
    number = int(name[1:])
    model = model_folder() if options.model == "starter" else options.model
    data = data_file("train") if options.data == "starter" else options.data
    return python(
        *("-m", "benchmarks.stock_script", "--model", model, "--data", data, "--out", out),
        *("--r", RANKS[number % len(RANKS)], "--learning-rate", RATES[number % len(RATES)]),
        *("--batch-size", options.batch_size, "--max-steps", options.steps),
    )


def report(sides: dict[str, list[ProcessCost]], imports: int, number: int) -> None:
    """The table, and the ratios round by round."""
    print(f"imports alone: {imports / 2**20:,.0f} MiB; {os.cpu_count()} processors")
    for side, measured in sides.items():
        if measured:
            seconds = statistics.median(m.seconds for m in measured)
            peak = max(m.peak_bytes for m in measured) - imports
            print(f"{side:10}  {seconds:8.1f} s (median)  {peak / 2**20:8,.0f} MiB above the imports")
    for other in ("separate", "stock"):
        if sides[other]:
            ours, theirs = ([m.seconds for m in sides[side]] for side in ("bank", other))
            print(f"bank of {number} / {other}: {ratio(ours, theirs)}")
    peaks = [max(m.peak_bytes for m in sides[side]) - imports for side in ("bank", "one alone")]
    print(f"peak of the bank of {number} / of one alone: {peaks[0] / peaks[1]:.2f}")


if __name__ == "__main__":
    main()

"""Base and eight adapters answer the same rows: in one command, and each by a stock script; whole processes.

    python -m benchmarks.generation [--adapters 8] [--prompts 200] [--rounds 3] [--batch-size 8]

Each side is started as a user would start it. What the start alone takes is measured by the same commands
with one prompt, and shown apart. `--batch-size` is the stock script's, 8 as the Trainer's default; ours is
the recipe's default of 64 rows of each model. Both sides decode greedily, and their answers are compared.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.processes import LORALOOM, ProcessCost, python, run, together, train
from benchmarks.rounds import options_of, ratio
from loraloom.starter import data_file, model_folder

MAX_NEW_TOKENS = 80


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        trained = _train(options.adapters, place)
        sources = [row["instruction"] for row in json.loads(data_file("train").read_text(encoding="utf-8"))]
        many, one = place / "prompts.txt", place / "prompt.txt"
        many.write_text("\n".join(sources[: options.prompts]) + "\n", encoding="utf-8")
        one.write_text(sources[0] + "\n", encoding="utf-8")
        sides: dict[str, list[ProcessCost]] = {
            "ours": [],
            "ours, start": [],
            "stock": [],
            "stock, start": [],
        }
        for _ in range(options.rounds):
            sides["ours"].append(_ours(trained, many))
            sides["ours, start"].append(_ours(trained, one))
            sides["stock"].append(_stock(trained, many, options.batch_size))
            sides["stock, start"].append(_stock(trained, one, options.batch_size))
            latest = {side: round(measured[-1].seconds, 1) for side, measured in sides.items()}
            print(latest, file=sys.stderr, flush=True)
            if len(sides["ours"]) == 1:
                _ours(trained, many)  # the answers of one prompt lie there now
                same, total = _agreement(trained, place)
    _report(sides, options.adapters, f"{same} of {total} answers are the same")


def _train(number: int, place: Path) -> Path:
    """A run of so many adapters, each with a rate of its own."""
    recipe = {
        "model_name_or_path": "starter",
        "data": {"train": "starter", "eval": 0},
        "training": {"max_steps": 60, "eval_strategy": "no", "save_strategy": "no"},
        "generation": {"max_new_tokens": MAX_NEW_TOKENS},
        "experiments": {
            f"e{each}": {"training": {"learning_rate": 1e-3 + 5e-4 * each}} for each in range(number)
        },
    }
    train(recipe, place / "run")
    return place / "run"


def _ours(trained: Path, prompts: Path) -> ProcessCost:
    return run(LORALOOM, "compare", trained, "--prompts", prompts)


def _stock(trained: Path, prompts: Path, batch_size: int) -> ProcessCost:
    """The base and each adapter, one process after the other."""
    names = ["base", *sorted(folder.name for folder in (trained / "adapters").iterdir())]
    return together(
        python(
            *("-m", "benchmarks.stock_generate", "--model", model_folder(), "--prompts", prompts),
            *("--batch-size", batch_size, "--max-new-tokens", MAX_NEW_TOKENS),
            *("--out", trained.parent / f"{name}-{prompts.stem}.json"),
            *(() if name == "base" else ("--adapter", trained / "adapters" / name)),
        )
        for name in names
    )


def _agreement(trained: Path, place: Path) -> tuple[int, int]:
    """How many answers of both sides are the same, and how many there are."""
    rows = json.loads((trained / "compare" / "prompts.json").read_text(encoding="utf-8"))["rows"]
    pairs = [
        (row["answers"][model], stock)
        for model in rows[0]["answers"]
        for row, stock in zip(
            rows, json.loads((place / f"{model}-prompts.json").read_text(encoding="utf-8")), strict=True
        )
    ]
    return sum(ours == stock for ours, stock in pairs), len(pairs)


def _report(sides: dict[str, list[ProcessCost]], adapters: int, agreement: str) -> None:
    print(f"base + {adapters} adapters; {os.cpu_count()} processors; {agreement}")
    for side, measured in sides.items():
        print(f"{side:14}{statistics.median(m.seconds for m in measured):8.1f} s (median)")
    seconds = {side: [m.seconds for m in measured] for side, measured in sides.items()}
    print(f"{adapters + 1} stock commands / one of ours: {ratio(seconds['stock'], seconds['ours'])}")
    answering = {
        side: [whole - start for whole, start in zip(seconds[side], seconds[f"{side}, start"], strict=True)]
        for side in ("ours", "stock")
    }
    print(f"the same without the start of the processes: {ratio(answering['stock'], answering['ours'])}")


if __name__ == "__main__":
    main()

"""One training on 1, 2, 4 processes: bytes summed a step, memory a rank, and both as the plan predicts them.

    python -m benchmarks.scale [--ranks 1 2 4] [--layers 12] [--d-model 768] [--dtype float32] [--steps 4]
    python -m benchmarks.scale --answers [--ranks 1 2 4] [--layers 12] [--d-model 768]

Every rank is a process of this machine with one thread, connected by gloo. Each number of processes is tried
with the base whole on each rank, and divided among them (`training.shard_base`). Memory is the peak of a rank
from its second step on, less what imports alone take, the largest of all ranks; losses are compared with
those of one process. Seconds say little if there are fewer cores than ranks.

With --answers, `compare` is measured instead, on the base whole in one process and divided among several:
what a rank has when it begins to answer, and its peak from then on, both less what imports alone take.
Answers and losses are compared with those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import python
from benchmarks.rounds import options_of
from benchmarks.shapes import ROWS
from tests.tiny import make_folder

IMPORTS = "import loraloom.commands.train, loraloom.console, torch.distributed.fsdp"
COLUMNS = (
    "processes",
    "base",
    "summed a step",
    "predicted",
    "gathered a step",
    "predicted",
    "memory a rank",
    "predicted",
    "largest difference of a loss",
    "median step",
)
OF_ANSWERS = (
    "processes",
    "base",
    "a rank before the first pass",
    "at its peak",
    "equal answers",
    "largest difference of a loss",
    "seconds",
)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--answers", action="store_true")
    options = parser.parse_args()
    if options.answers:
        measure_answers(options)
        return
    imports = python("-c", IMPORTS).peak_bytes
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = write_recipe(folder, options)
        expected: list[float] = []
        for size in options.ranks:
            for is_shared in (False, True) if size > 1 else (False,):
                run = folder / f"{size}-{is_shared}"
                counts = train_on(size, recipe, run, is_shared)
                losses = losses_of(run)
                expected = expected or losses
                print(line(size, is_shared, counts, run, imports, losses, expected), flush=True)


def write_recipe(folder: Path, options: argparse.Namespace) -> Path:
    """A model with random weights, its rows, and a recipe of an adapter on all linears."""
    d_model = options.d_model
    sizes = {"d_model": d_model, "d_ff": d_model * 8 // 3, "d_kv": 64, "num_heads": d_model // 64}
    layers = {"num_layers": options.layers, "num_decoder_layers": options.layers}
    make_folder(folder / "model", "mt5", **sizes, **layers, vocab_size=32_128)
    (folder / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    recipe = {
        "model_name_or_path": str(folder / "model"),
        "data": {"train": "rows.json", "eval": 4, "max_source_length": 32, "max_target_length": 32},
        "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": "all-linear"},
        "training": {
            "max_steps": options.steps,
            "per_device_train_batch_size": options.batch_size,
            "eval_strategy": "no",
            "save_strategy": "no",
        },
        "dtype": options.dtype,
        "device": "cpu",
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return file


def measure_answers(options: argparse.Namespace) -> None:
    """Train once, then compare base and adapter on each number of processes."""
    print(f"| {' | '.join(OF_ANSWERS)} |\n|{'---|' * len(OF_ANSWERS)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = folder / "run"
        train_on(1, write_recipe(folder, options), run, is_shared=True)
        expected: dict[str, Any] = {}
        for size in options.ranks:
            file = run / "compare" / "eval.json"
            file.unlink(missing_ok=True)
            counts = on_ranks(size, folder / f"answers-{size}", ["compare", run])
            found = json.loads(file.read_text(encoding="utf-8"))
            expected = expected or found
            print(line_of_answers(size, counts, found, expected), flush=True)


def line_of_answers(
    size: int, counts: list[dict[str, Any]], found: dict[str, Any], expected: dict[str, Any]
) -> str:
    """A row of the table of answers."""
    same = [
        own["answers"] == row["answers"] for own, row in zip(found["rows"], expected["rows"], strict=True)
    ]
    losses, wanted = (
        [model["figures"]["eval_loss"] for model in each["models"].values()] for each in (found, expected)
    )
    cells = (
        size,
        "divided" if size > 1 else "whole",
        mib(max(each["loaded"] - each["imports"] for each in counts)),
        mib(max(each["peak"] - each["imports"] for each in counts)),
        f"{sum(same)} of {len(same)}",
        f"{max(abs(one - other) for one, other in zip(losses, wanted, strict=True)):.1e}",
        f"{counts[0]['seconds']:.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def train_on(size: int, recipe: Path, run: Path, is_shared: bool) -> list[dict[str, Any]]:
    """What each rank of a training has counted."""
    words = ["train", recipe, "--out", run, "--set", f"training.shard_base={str(is_shared).lower()}"]
    return on_ranks(size, run, words)


def on_ranks(size: int, out: Path, command: list[object]) -> list[dict[str, Any]]:
    """What each rank of a command has counted, in files that begin with a path."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    ranks = []
    for rank in range(size):
        where = dict[str, object](RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
        where |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        where |= {"MALLOC_MMAP_THRESHOLD_": 2**20}  # glibc returns what is released, as a GPU's allocator can
        words = ["-m", "benchmarks.rank_worker", f"{out}-{rank}.json", *command]
        ranks.append(
            subprocess.Popen(
                [sys.executable, *map(str, words)],
                env={**os.environ, **{key: str(value) for key, value in where.items()}},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
            )
        )
    said = [rank.communicate()[1] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise SystemExit("\n".join(each[-500:] for each in said))
    return [json.loads(Path(f"{out}-{rank}.json").read_text(encoding="utf-8")) for rank in range(size)]


def losses_of(run: Path) -> list[float]:
    """Of each step."""
    lines = (json.loads(line) for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines())
    return [each["loss"] for each in lines if each["event"] == "train"]


def line(
    size: int,
    is_shared: bool,
    counts: list[dict[str, Any]],
    run: Path,
    imports: int,
    losses: list[float],
    expected: list[float],
) -> str:
    """A row of the table."""
    plan = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["plan"]
    traffic = plan.get("traffic") or {"reduced_bytes": 0, "gathered_bytes": 0}
    steps, summed = counts[0]["steps"] - 1, counts[0]["of_steps"]
    measured = max(each["peak"] for each in counts) - imports
    # What loading left is the process's own high water; from the second step on, it is free again.
    predicted = plan["memory"]["loaded_bytes"] + sum(plan["memory"]["parts"].values()) - imports
    difference = max(abs(one - other) for one, other in zip(losses, expected, strict=True))
    cells = (
        size,
        "divided" if is_shared else "whole",
        mib(summed["reduced"] / steps),
        mib(traffic["reduced_bytes"]),
        mib(summed["gathered"] / steps),
        mib(traffic["gathered_bytes"]),
        mib(measured),
        mib(predicted),
        f"{difference:.1e}",
        f"{median(counts[0]['seconds']):.2f} s",
    )
    return f"| {' | '.join(map(str, cells))} |"


def mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"


if __name__ == "__main__":
    main()

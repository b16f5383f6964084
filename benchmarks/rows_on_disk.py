"""A training on a Parquet file of very many short rows: anonymous memory of its process at each stage.

    python -m benchmarks.rows_on_disk [--rows 10000000] [--steps 20] [--kill]

The file is generated in row groups of 100,000 and removed afterwards, as is the run. What is measured is
RssAnon in /proc/<pid>/status of the training, every 20 ms: pages of the files that it maps are the system's,
which takes them back as it needs, and are not part of it. With --kill, the process is killed (SIGKILL) when
half of the rows are encoded, and the run is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.rounds import options_of

BOUND_BYTES = 1_500_000_000
ROWS_A_GROUP = 100_000
WORDS = np.array(["river", "stone", "cloud", "green", "house", "music", "paper", "winter", "bread", "light"])
STAGES = ("read and split", "checks of the data, loading", "encode", "checks, plan, training")


def main() -> None:
    """Write, train, print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        file = folder / "rows.parquet"
        write_rows(file, options.rows)
        print(f"{options.rows:,} rows, {file.stat().st_size / 2**20:.0f} MiB of Parquet\n", flush=True)
        recipe = write_recipe(folder, options)
        run = folder / "run"
        print("| stage | seconds | RssAnon at its peak |\n|---|---|---|", flush=True)
        peak = 0
        if options.kill:
            peak = measured(["train", recipe, "--out", run], run, kill_at=options.rows // 2)
            peak = max(peak, measured(["train", "--resume", run], run))
        else:
            peak = measured(["train", recipe, "--out", run], run)
        size = sum(each.stat().st_size for each in (run / "rows").rglob("*") if each.is_file())
        print(f"\n{size / 2**20:.0f} MiB in the run's folder of rows; {steps_of(run)} steps trained")
        if peak > BOUND_BYTES:
            raise SystemExit(f"the peak is beyond {BOUND_BYTES / 1e9} GB")


def write_rows(file: Path, num_rows: int) -> None:
    """Questions and answers of a few words, of which no two questions are alike."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    draw = np.random.default_rng(0)
    schema = arrow.schema([("instruction", arrow.string()), ("response", arrow.string())])
    with parquet.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, num_rows, ROWS_A_GROUP):
            numbers = np.arange(start, min(start + ROWS_A_GROUP, num_rows))
            words = draw.choice(WORDS, (len(numbers), 3))
            columns = [
                [f"{number} {a} {b}?" for number, (a, b, _) in zip(numbers.tolist(), words, strict=True)],
                [f"{c} {b} {number}" for number, (_, b, c) in zip(numbers.tolist(), words, strict=True)],
            ]
            writer.write_table(arrow.table(columns, schema=schema), row_group_size=ROWS_A_GROUP)


def write_recipe(folder: Path, options: argparse.Namespace) -> Path:
    """An adapter on the starter, with some thousand rows held out."""
    recipe = {
        "model_name_or_path": "starter",
        "data": {
            "train": "rows.parquet",
            "eval": 2_000,
            "keep_rows": "disk",
            "max_source_length": 32,
            "max_target_length": 32,
        },
        "training": {
            "max_steps": options.steps,
            "per_device_train_batch_size": 8,
            "eval_strategy": "no",
            "save_strategy": "no",
        },
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return file


def measured(words: list[object], run: Path, kill_at: int | None = None) -> int:
    """Run a command, print what each stage took, and return the highest RssAnon, in bytes.

    Args:
        words: of the command.
        run: its folder, which tells the stage.
        kill_at: rows after whose encoding the process is killed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "loraloom", *map(str, words)],
        env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks, seconds = dict.fromkeys(STAGES, 0), dict.fromkeys(STAGES, 0.0)
    before = time.monotonic()
    is_killed = False
    while process.poll() is None:
        stage, encoded = stage_of(run)
        peaks[stage] = max(peaks[stage], anonymous_bytes(process.pid))
        now = time.monotonic()
        seconds[stage], before = seconds[stage] + now - before, now
        if kill_at is not None and encoded >= kill_at:
            process.send_signal(signal.SIGKILL)
            is_killed = True
            break
        time.sleep(0.02)
    assert process.stderr is not None
    said = process.stderr.read()
    if process.wait() != (-signal.SIGKILL if is_killed else 0):
        raise SystemExit(said[-2_000:])
    for stage in STAGES:
        if peaks[stage]:
            print(f"| {stage} | {seconds[stage]:.0f} | {peaks[stage] / 1e6:.0f} MB |", flush=True)
    if is_killed:
        print(f"| killed with {kill_at:,} rows encoded, then resumed | | |", flush=True)
    elif goes_on := re.search(r"encoding goes on at row .*", said):
        print(f"| {goes_on[0]} | | |", flush=True)
    return max(peaks.values())


def stage_of(run: Path) -> tuple[str, int]:
    """Return what a training is doing, and how many rows its larger part has encoded."""
    if not (run / "split.json").exists():
        return STAGES[0], 0
    states = []
    for file in (run / "rows").glob("tokens-*/tokens.json"):
        try:
            states.append(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # it is being replaced
            continue
    if not states and not list((run / "rows").glob("tokens-*")):
        return STAGES[1], 0
    if len(states) < 2 or not all(state["sums"] for state in states):
        return STAGES[2], max((state["examples"] for state in states), default=0)
    return STAGES[3], 0


def anonymous_bytes(pid: int) -> int:
    """Return RssAnon of a process; 0 if it has ended."""
    try:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def steps_of(run: Path) -> int:
    """Return how many steps a finished run has trained."""
    steps: int = json.loads((run / "result.json").read_text(encoding="utf-8"))["steps"]
    return steps


if __name__ == "__main__":
    main()

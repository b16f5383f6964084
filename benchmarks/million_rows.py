"""A file of many rows, read, split and encoded in a fresh process: the peak of its memory after each.

python -m benchmarks.million_rows [--rows 1000000] [--row-bytes 200]

The rows are written first, by another process, and removed afterwards. What is measured is the resident
set's highest mark (ru_maxrss); torch and transformers, which every training imports, are part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import peak_bytes
from benchmarks.rounds import options_of

WORDS = (
    "焦虑",
    "压力",
    "朋友",
    "学校",
    "家里",
    "心情",
    "怎么办",
    "最近",
    "总是",
    "觉得",
    "试着",
    "慢慢",
    "聊聊",
)
BOUND_BYTES = 2 * 10**9


def main() -> None:
    """Write, measure, print."""
    parser = options_of(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-bytes", type=int, default=200)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write_rows(file, options.rows, options.row_bytes)
        print(f"{options.rows:,} rows of {file.stat().st_size / options.rows:.0f} bytes", flush=True)
        subprocess.run([sys.executable, "-m", "benchmarks.million_rows", "--measure", str(file)], check=True)


def write_rows(file: Path, num_rows: int, row_bytes: int) -> None:
    """JSON lines of Chinese words, each of just over `row_bytes` bytes, no two alike."""
    draw = random.Random(0)
    with file.open("w", encoding="utf-8") as out:
        for number in range(num_rows):
            row = {"instruction": f"{number} ", "response": ""}
            key = "instruction"
            while len(line := json.dumps(row, ensure_ascii=False)) and len(line.encode()) < row_bytes - 1:
                row[key] += draw.choice(WORDS)
                key = "response" if key == "instruction" else "instruction"
            out.write(line + "\n")


def measure(file: Path) -> None:
    """Read, split and encode with the starter's tokenizer, as `train` does; print the peak after each.

    Raises:
        SystemExit: the last peak is beyond the bound.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from loraloom.data.splitting.split import split_examples
    from loraloom.recipe import DataSettings

    print(f"{'':24}{'seconds':>8}{'peak':>10}")
    with stage("read and split"):
        split = split_examples(DataSettings(train=str(file), eval=0.01).in_folder(file.parent))
    with stage("torch, transformers"):
        from loraloom.base.loading import load_base
        from loraloom.data.encoding import encode
    with stage("the starter loaded"):
        base = load_base("starter", device="cpu")
    with stage("encoded"):
        encoded = encode(split.train, base.tokenizer, max_source_length=256, max_target_length=256)
    tokens = int(encoded.source_lengths.sum() + encoded.target_lengths.sum())
    print(f"{len(encoded):,} rows to train on, {tokens / len(encoded):.0f} tokens each")
    if peak_so_far() > BOUND_BYTES:
        sys.exit(f"the peak is beyond {BOUND_BYTES / 1e9:.0f} GB")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print what a part of the work took."""
    begun = time.perf_counter()
    yield
    print(f"{name:24}{time.perf_counter() - begun:8.0f}{peak_so_far() / 1e9:7.2f} GB", flush=True)


def peak_so_far() -> int:
    """Of this process, in bytes."""
    return peak_bytes(resource.getrusage(resource.RUSAGE_SELF))


if __name__ == "__main__":
    main()

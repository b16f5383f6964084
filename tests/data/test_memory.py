"""Many rows in little memory: a million of 200 bytes are read, split and encoded within 2 GB.

The whole of it is `benchmarks/million_rows.py`; here are fewer, and what each row may cost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUM_ROWS = 10_000
# A million of them, and the half gigabyte that torch, transformers and a small model take: 2 GB.
BYTES_A_ROW = 1_500
PROGRAM = """
import sys, tracemalloc
from pathlib import Path
sys.path.insert(0, "benchmarks")
from million_rows import write_rows
from loraloom.data.encoding import encode
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings
from loraloom.base.loading import load_base

file, num_rows = Path(sys.argv[1]), int(sys.argv[2])
write_rows(file, num_rows, 200)
base = load_base("starter", device="cpu")
encode([], base.tokenizer, max_source_length=256, max_target_length=256)
tracemalloc.start()
split = split_examples(DataSettings(train=str(file), eval=0.01).in_folder(file.parent))
encoded = encode(split.train, base.tokenizer, max_source_length=256, max_target_length=256)
kept, peak = tracemalloc.get_traced_memory()
assert len(encoded) == round(num_rows * 0.99)
tokens = int(encoded.source_lengths.sum() + encoded.target_lengths.sum())
print(peak, tokens)
"""


def test_what_a_row_costs_from_the_file_to_its_tokens(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "rows.jsonl"), str(NUM_ROWS)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    peak_bytes, num_tokens = map(int, done.stdout.split())
    assert num_tokens > 20 * NUM_ROWS
    assert peak_bytes / NUM_ROWS < BYTES_A_ROW

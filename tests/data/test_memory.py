"""Many rows in little memory: a million of 200 bytes are read, split and encoded within 2 GB.

The whole of it is `benchmarks/million_rows.py`; here are fewer, and what each row may cost.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.million_rows import write_rows
from loraloom.base.loading import load_base
from loraloom.data.encoding import encode
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings

NUM_ROWS = 5_000
# A million of them, and the half gigabyte that torch, transformers and a small model take: 2 GB.
BYTES_A_ROW = 1_500


@pytest.fixture
def traced() -> Iterator[None]:
    """What is allocated from now on is counted."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_what_a_row_costs_from_the_file_to_its_tokens(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, NUM_ROWS, 200)
    tokenizer = load_base("starter", device="cpu").tokenizer
    encode([], tokenizer, max_source_length=256, max_target_length=256)
    request.getfixturevalue("traced")
    split = split_examples(DataSettings(train=str(file), eval=0.01).in_folder(file.parent))
    encoded = encode(split.train, tokenizer, max_source_length=256, max_target_length=256)
    _, peak_bytes = tracemalloc.get_traced_memory()
    assert len(encoded) == round(NUM_ROWS * 0.99)
    assert int(encoded.source_lengths.sum() + encoded.target_lengths.sum()) > 20 * NUM_ROWS
    assert peak_bytes / NUM_ROWS < BYTES_A_ROW

"""Tokens in files: those of rows in memory, and an interrupted encoding goes on where it was."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from loraloom.base.loading import Base
from loraloom.data.batches import epoch_order
from loraloom.data.encoding import EncodedSet, encode
from loraloom.data.example import Example
from loraloom.data.splitting.split import in_silence, split_examples
from loraloom.data.stored import encoded_file
from loraloom.data.stored.encoded_file import encode_stored
from loraloom.data.stored.example_file import StoredExamples
from loraloom.recipe import DataSettings


@pytest.fixture
def rows(tmp_path: Path) -> StoredExamples:
    """Sixty rows in files."""
    lines = [json.dumps({"instruction": "ab " * (row % 7 + 1), "response": f"{row}"}) for row in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = DataSettings(train="rows.jsonl", eval=0, keep_rows="disk").in_folder(tmp_path)
    train = split_examples(settings, folder=tmp_path / "rows").train
    assert isinstance(train, StoredExamples)
    return train


@pytest.fixture
def encoder(loaded: Callable[[str], Base]) -> Callable[[Sequence[Example]], EncodedSet]:
    """Encodes with a tiny model's tokenizer, and cuts some sources."""
    tokenizer = loaded("mt5").tokenizer
    return lambda some: encode(some, tokenizer, max_source_length=10, max_target_length=6)


def _equal(one: EncodedSet, other: EncodedSet) -> bool:
    arrays = [
        (*each.arrays, each.source_lengths, each.target_lengths, each.source_cuts) for each in (one, other)
    ]
    return all(np.array_equal(a, b) for a, b in zip(*arrays, strict=True))


def test_an_encoding_that_was_interrupted_goes_on_and_has_the_tokens_of_rows_in_memory(
    rows: StoredExamples, encoder: Callable[[Sequence[Example]], EncodedSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoded_file, "CHUNK", 7)
    monkeypatch.setattr(encoded_file, "_CHUNKS_A_SAVE", 2)
    encoded: list[int] = []
    said: list[str] = []

    def dying(some: Sequence[Example]) -> EncodedSet:
        if len(encoded) == 5:
            raise KeyboardInterrupt
        encoded.append(len(some))
        return encoder(some)

    with pytest.raises(KeyboardInterrupt):
        encode_stored(rows, dying, {"a": 1}, said.append)
    assert len(encoded) == 5
    encoded.clear()

    def counted(some: Sequence[Example]) -> EncodedSet:
        encoded.append(len(some))
        return encoder(some)

    stored = encode_stored(rows, counted, {"a": 1}, said.append)
    assert sum(encoded) == 60 - 28  # four chunks of seven were on the disk
    assert said == ["encoding continues at row 29 of 60"]
    whole = encoder(list(rows))
    assert _equal(stored, whole)
    assert np.array_equal(stored.target_tokens, whole.target_tokens)
    assert stored[59].labels.tolist() == whole[59].labels.tolist()
    encoded.clear()
    assert _equal(encode_stored(rows, counted, {"a": 1}, said.append), whole)
    assert encoded == []
    assert _equal(encode_stored(rows, counted, {"a": 2}, said.append), whole)  # of another tokenizer
    assert sum(encoded) == 60


def test_tokens_that_a_disk_damaged_are_encoded_again(
    rows: StoredExamples, encoder: Callable[[Sequence[Example]], EncodedSet]
) -> None:
    whole = encoder(list(rows))
    encode_stored(rows, encoder, {}, in_silence)
    (sources,) = (rows.file.folder.parent).glob("tokens-*/sources.bin")
    sources.write_bytes(sources.read_bytes()[:-1] + b"x")
    assert _equal(encode_stored(rows, encoder, {}, in_silence), whole)
    assert _equal(encode_stored(rows, encoder, {}, in_silence), whole)


def test_the_order_of_very_many_rows_is_in_a_file_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    epoch_order.cache_clear()
    expected = epoch_order(1_000, 5).copy()
    epoch_order.cache_clear()
    monkeypatch.setattr("loraloom.data.batches.MOST_IN_MEMORY", 10)
    order = epoch_order(1_000, 5)
    assert not order.flags.owndata
    assert np.array_equal(order, expected)
    epoch_order.cache_clear()


def test_the_order_of_very_many_rows_is_in_memory_if_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(**options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    epoch_order.cache_clear()
    expected = epoch_order(1_000, 5).copy()
    epoch_order.cache_clear()
    monkeypatch.setattr("loraloom.data.batches.MOST_IN_MEMORY", 10)
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    assert np.array_equal(epoch_order(1_000, 5), expected)
    epoch_order.cache_clear()

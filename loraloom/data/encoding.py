"""Examples → token ids: nothing is padded here, every sequence ends in EOS, what was cut is counted."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from loraloom.errors import DataError

IGNORED = -100  # the label of a position that takes no part in the loss, as in torch's cross_entropy
CHUNK = 1000


class Tokenizer(Protocol):
    """What is needed of a transformers tokenizer."""

    eos_token_id: int | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Texts → `{"input_ids": …}`."""


class Texts(Protocol):
    """What is needed of an example."""

    @property
    def source(self) -> str:
        """What is asked."""

    @property
    def response(self) -> str:
        """What is to be answered."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids, unpadded.

    Args:
        input_ids: int32 [source_len], EOS last.
        labels: int32 [target_len], EOS last.
    """

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]


class EncodedSet(Sequence[Encoded]):
    """Many examples in four flat arrays, so that a million of them need no million objects.

    Args:
        sources, targets: token ids of each example.
        num_truncated_sources, num_truncated_targets: how many were cut to the limit.
    """

    def __init__(
        self,
        sources: Iterable[Sequence[int]],
        targets: Iterable[Sequence[int]],
        num_truncated_sources: int = 0,
        num_truncated_targets: int = 0,
    ) -> None:
        self._sources, self._source_starts = _flatten(sources)
        self._targets, self._target_starts = _flatten(targets)
        self.num_truncated_sources = num_truncated_sources
        self.num_truncated_targets = num_truncated_targets

    def __len__(self) -> int:
        return len(self._source_starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        source = slice(self._source_starts[index], self._source_starts[index + 1])
        target = slice(self._target_starts[index], self._target_starts[index + 1])
        return Encoded(self._sources[source], self._targets[target])

    def __iter__(self) -> Iterator[Encoded]:
        return (self[index] for index in range(len(self)))

    @property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each source, EOS included."""
        return np.diff(self._source_starts)

    @property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each target, EOS included."""
        return np.diff(self._target_starts)

    @property
    def final_labels(self) -> npt.NDArray[np.int32]:
        """The last token of each target, which should be EOS."""
        return self._targets[self._target_starts[1:] - 1]


def _flatten(sequences: Iterable[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """All token ids behind one another, and where each sequence begins; one sequence is held at a time."""
    flat, starts = array("i"), array("q", [0])
    for ids in sequences:
        flat.extend(ids)
        starts.append(len(flat))
    return np.frombuffer(flat, dtype=np.int32), np.frombuffer(starts, dtype=np.int64)


def encode(
    examples: Sequence[Texts], tokenizer: Tokenizer, *, max_source_length: int, max_target_length: int
) -> EncodedSet:
    """Token ids of sources and responses.

    Args:
        examples: with `source` and `response`.
        tokenizer: a transformers tokenizer.
        max_source_length, max_target_length: tokens kept, EOS included.

    Raises:
        DataError: the tokenizer has no EOS token.
    """
    sources = _TokenIds((e.source for e in examples), tokenizer, max_source_length)
    targets = _TokenIds((e.response for e in examples), tokenizer, max_target_length, as_target=True)
    encoded = EncodedSet(sources, targets)
    encoded.num_truncated_sources, encoded.num_truncated_targets = sources.num_cut, targets.num_cut
    return encoded


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, limit: int, *, as_target: bool = False
) -> tuple[list[list[int]], int]:
    """Token ids of each text, at most `limit` of them, EOS always last; and how many texts were cut."""
    ids = _TokenIds(texts, tokenizer, limit, as_target=as_target)
    return list(ids), ids.num_cut


class _TokenIds:
    """Token ids of texts, a chunk at a time: a million lists of Python's ints would be gigabytes.

    Each has at most `limit` ids, EOS always last. A tokenizer's own truncation may cut EOS off, and T5
    then never learns to stop.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: Tokenizer, limit: int, *, as_target: bool = False
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise DataError("the tokenizer has no EOS token, so no answer would ever end")
        self.num_cut = 0
        self._texts, self._tokenizer, self._limit = iter(texts), tokenizer, limit
        self._eos = tokenizer.eos_token_id
        self._keyword = "text_target" if as_target else "text"

    def __iter__(self) -> Iterator[list[int]]:
        while chunk := list(itertools.islice(self._texts, CHUNK)):
            encoded = self._tokenizer(**{self._keyword: chunk}, return_attention_mask=False, verbose=False)
            yield from map(self._bounded, encoded["input_ids"])

    def _bounded(self, ids: list[int]) -> list[int]:
        whole = ids if ids and ids[-1] == self._eos else [*ids, self._eos]
        if len(whole) <= self._limit:
            return whole
        self.num_cut += 1
        return [*whole[: self._limit - 1], self._eos]

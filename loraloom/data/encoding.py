"""Tokenization of examples, without padding: all end in EOS, and truncations are counted.

A source that is too long is truncated as `data.source_truncation` says (`sources/truncation.py`), a
response at its end.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from loraloom.data.sources.source import pieces_of
from loraloom.data.sources.truncation import AT_THE_END, describe_truncation, truncate_all
from loraloom.errors import DataError
from loraloom.text.message import Message

Truncation = Literal["context", "right"]
IGNORED = -100  # label of positions that the loss ignores, as in torch's cross_entropy
CHUNK = 1000


class Tokenizer(Protocol):
    """The part of the transformers tokenizer interface that encoding uses."""

    eos_token_id: int | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Tokenize texts into `{"input_ids": …}`."""


class PromptLike(Protocol):
    """The attributes of a prompt that encoding uses."""

    @property
    def source(self) -> str:
        """The source text."""

    @property
    def parts(self) -> bytes:
        """The kinds and lengths of the pieces of the source, as `pieces_of` reads them."""


class ExampleLike(PromptLike, Protocol):
    """The attributes of an example that encoding uses."""

    @property
    def response(self) -> str:
        """The response to learn."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example as token ids, unpadded.

    Args:
        input_ids: int32 [source_len], EOS last.
        labels: int32 [target_len], EOS last.
    """

    input_ids: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int32]


class EncodedSet(Sequence[EncodedExample]):
    """Encoded examples in four flat arrays, so that a million examples do not need a million objects.

    Args:
        sources, targets: token ids of each example.
    """

    def __init__(
        self,
        sources: Iterable[Sequence[int]],
        targets: Iterable[Sequence[int]],
    ) -> None:
        self._sources, self._source_starts = _flatten(sources)
        self._targets, self._target_starts = _flatten(targets)
        # Per example, one bit for each kind of piece that was cut.
        self.source_cuts = np.zeros(len(self), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._source_starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        source = slice(self._source_starts[index], self._source_starts[index + 1])
        target = slice(self._target_starts[index], self._target_starts[index + 1])
        return EncodedExample(self._sources[source], self._targets[target])

    def __iter__(self) -> Iterator[EncodedExample]:
        return (self[index] for index in range(len(self)))

    @property
    def num_truncated_sources(self) -> int:
        """Number of sources that were truncated to the limit."""
        return int(np.count_nonzero(self.source_cuts))

    @cached_property
    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each source, including EOS."""
        return np.diff(self._source_starts)

    @cached_property
    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each target, including EOS."""
        return np.diff(self._target_starts)

    def num_tokens(self, rows: Sequence[int]) -> npt.NDArray[np.int64]:
        """Tokens of some examples, source and target together."""
        chosen = np.asarray(rows, dtype=np.int64)
        return self.source_lengths[chosen] + self.target_lengths[chosen]

    @property
    def target_tokens(self) -> npt.NDArray[np.int32]:
        """Sorted unique tokens of all targets."""
        return np.unique(self._targets)

    @property
    def final_labels(self) -> npt.NDArray[np.int32]:
        """The last token of each target, which should be EOS."""
        return self._targets[self._target_starts[1:] - 1]


def _flatten(sequences: Iterable[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Concatenate token ids and record where each sequence begins, holding one sequence at a time."""
    flat, starts = array("i"), array("q", [0])
    for ids in sequences:
        flat.extend(ids)
        starts.append(len(flat))
    return np.frombuffer(flat, dtype=np.int32), np.frombuffer(starts, dtype=np.int64)


def encode(
    examples: Sequence[ExampleLike],
    tokenizer: Tokenizer,
    *,
    max_source_length: int,
    max_target_length: int,
    truncation: Truncation = "context",
) -> EncodedSet:
    """Tokenize sources and responses.

    Args:
        examples: with `source`, `parts` and `response`.
        tokenizer: a transformers tokenizer.
        max_source_length, max_target_length: number of tokens to keep, including EOS.
        truncation: what to remove from a source that is too long.

    Raises:
        DataError: the tokenizer has no EOS token.
    """
    sources = _Sources(examples, tokenizer, max_source_length, truncation)
    targets = _TokenIds((e.response for e in examples), tokenizer, max_target_length, as_target=True)
    encoded = EncodedSet(sources, targets)
    encoded.source_cuts = sources.all_cuts
    return encoded


def encode_sources(
    rows: Sequence[PromptLike], tokenizer: Tokenizer, limit: int, truncation: Truncation
) -> tuple[list[list[int]], npt.NDArray[np.uint8]]:
    """Tokenize sources to at most `limit` ids each, EOS always last, and return what was cut of each."""
    sources = _Sources(rows, tokenizer, limit, truncation)
    return list(sources), sources.all_cuts


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, limit: int, *, as_target: bool = False
) -> tuple[list[list[int]], int]:
    """Tokenize texts to at most `limit` ids each, EOS always last, and count the texts that were cut."""
    ids = _TokenIds(texts, tokenizer, limit, as_target=as_target)
    return list(ids), ids.num_cut


def describe_cuts(part: str, cuts: npt.NDArray[np.uint8], limit: int) -> str:
    """Describe in one sentence which sources were cut; "" if none was.

    Args:
        part: for example `train` or `eval`; may be "".
        cuts: as `EncodedSet.source_cuts`.
        limit: data.max_source_length.
    """
    if not cuts.any():
        return ""
    counted = f"{np.count_nonzero(cuts):,} of {len(cuts):,} {part} sources".replace("  ", " ")
    return Message(
        "{counted} are cut to {limit} tokens: {describe_truncation}",
        counted=counted,
        limit=limit,
        describe_truncation=describe_truncation(cuts),
    )


class _TokenIds:
    """Token ids of texts, computed in chunks, because a million lists of Python ints would take gigabytes.

    Each text has at most `limit` ids, EOS always last. A tokenizer's own truncation may remove EOS, and
    T5 then never learns to stop.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: Tokenizer, limit: int, *, as_target: bool = False
    ) -> None:
        self.num_cut = 0
        self._texts, self._limit = iter(texts), limit
        self._whole = _Whole(tokenizer, "text_target" if as_target else "text")

    def __iter__(self) -> Iterator[list[int]]:
        while chunk := list(itertools.islice(self._texts, CHUNK)):
            yield from map(self._bounded, self._whole(chunk))

    def _bounded(self, ids: list[int]) -> list[int]:
        if len(ids) > self._limit:
            self.num_cut += 1
        return cut_at_end(ids, self._limit)


class _Sources:
    """Token ids of sources, truncated as `data.source_truncation` says."""

    def __init__(
        self, rows: Iterable[PromptLike], tokenizer: Tokenizer, limit: int, truncation: Truncation
    ) -> None:
        self._rows, self._limit, self._truncation = iter(rows), limit, truncation
        self._whole = _Whole(tokenizer, "text")
        self._cuts = array("B")

    @property
    def all_cuts(self) -> npt.NDArray[np.uint8]:
        """What was cut of each source, one bit for each kind of piece."""
        return np.frombuffer(self._cuts, dtype=np.uint8) if self._cuts else np.zeros(0, dtype=np.uint8)

    def __iter__(self) -> Iterator[list[int]]:
        while chunk := list(itertools.islice(self._rows, CHUNK)):
            whole = self._whole([row.source for row in chunk])
            yielded, cuts = fit_sources(chunk, whole, self._limit, self._truncation, self._whole)
            self._cuts.frombytes(cuts.tobytes())
            yield from yielded


def fit_sources(
    rows: Sequence[PromptLike],
    whole: Sequence[list[int]],
    limit: int,
    truncation: Truncation,
    tokenize: Callable[[list[str]], list[list[int]]],
) -> tuple[list[list[int]], npt.NDArray[np.uint8]]:
    """Truncate the sources that are too long.

    Args:
        rows: the sources.
        whole: tokens of each source, EOS last, not truncated.
        limit, truncation: as in `encode`.
        tokenize: converts texts to tokens, like those in `whole`.

    Returns:
        The tokens of each source and what was cut of it, uint8 [rows], one bit for each kind of piece.
    """
    fitting, cuts = list(whole), np.zeros(len(rows), dtype=np.uint8)
    too_long = [place for place, ids in enumerate(whole) if len(ids) > limit]
    if truncation == "right":
        for place in too_long:
            fitting[place], cuts[place] = cut_at_end(whole[place], limit), 1 << AT_THE_END
        return fitting, cuts
    asked = ((pieces_of(rows[place].source, rows[place].parts), len(whole[place])) for place in too_long)
    for place, shorter in zip(too_long, truncate_all(asked, limit, tokenize), strict=True):
        fitting[place], cuts[place] = shorter.ids, shorter.cuts
    return fitting, cuts


def cut_at_end(ids: list[int], limit: int) -> list[int]:
    """Truncate a sequence that ends in EOS to at most `limit` tokens, keeping EOS."""
    return ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]]


class _Whole:
    """Converts texts to token ids, EOS last, without truncation."""

    def __init__(self, tokenizer: Tokenizer, keyword: str) -> None:
        if tokenizer.eos_token_id is None:
            raise DataError(
                Message(
                    "the tokenizer has no EOS token, so no answer would ever end; use a tokenizer with one"
                )
            )
        self._tokenizer, self._keyword, self._eos = tokenizer, keyword, tokenizer.eos_token_id

    def __call__(self, texts: list[str]) -> list[list[int]]:
        encoded = self._tokenizer(**{self._keyword: texts}, return_attention_mask=False, verbose=False)
        return [ids if ids and ids[-1] == self._eos else [*ids, self._eos] for ids in encoded["input_ids"]]

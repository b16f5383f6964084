"""Tokenization of examples, without padding: targets end in EOS, and truncations are counted.

A source that is too long is truncated according to `data.source_truncation` (`sources/truncation.py`); a
response that is too long loses its end. For a multilingual base, language codes are added after truncation,
which therefore never removes them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from loraloom.data.languages.codes import Languages
from loraloom.data.sources.truncation import describe_truncation
from loraloom.data.token_ids import USUAL, Frame, PromptLike, SourceIds, TokenIds, Tokenizer, Truncation
from loraloom.text.message import Message

_PIECE = 2**20
IGNORED = -100  # label of positions that the loss ignores, as in torch's cross_entropy


class ExampleLike(PromptLike, Protocol):
    """The attributes of an example that encoding uses."""

    @property
    def response(self) -> str:
        """The response to learn."""


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example as token ids, unpadded.

    Args:
        input_ids: int32 [source_len]; if the model's sources end in EOS, that token is last, or next to
            last if a language code follows.
        labels: int32 [target_len]; EOS is last, or next to last if a language code follows.
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

    def chosen(self, numbers: Sequence[int]) -> EncodedSet:
        """Return the examples with the given indices as a new set, without a record of what was cut."""
        rows = [self[number] for number in numbers]
        return EncodedSet([row.input_ids.tolist() for row in rows], [row.labels.tolist() for row in rows])

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
        """Count the tokens in each of the given examples, source and target together."""
        chosen = np.asarray(rows, dtype=np.int64)
        return self.source_lengths[chosen] + self.target_lengths[chosen]

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """All source tokens, where each source begins, all target tokens, and where each target begins."""
        return self._sources, self._source_starts, self._targets, self._target_starts

    def side_lengths(self, rows: Sequence[int]) -> dict[Literal["source", "target"], list[int]]:
        """Count the tokens in each of the given examples, separately for source and target."""
        return {"source": self.source_lengths[rows].tolist(), "target": self.target_lengths[rows].tolist()}

    @property
    def target_tokens(self) -> npt.NDArray[np.int32]:
        """The sorted unique tokens of all targets."""
        found = np.zeros(0, np.int32)
        for start in range(0, len(self._targets), _PIECE):  # sorting makes a copy
            found = np.union1d(found, self._targets[start : start + _PIECE])
        return found

    def without_end(self, eos_token_id: int, codes: Iterable[int] = ()) -> npt.NDArray[np.int64]:
        """Return the indices of the examples whose target ends neither in EOS nor in EOS and a language code.

        Args:
            eos_token_id: token id of EOS.
            codes: token ids of the language codes.
        """
        known, found = list(codes), [np.zeros(0, np.int64)]
        for start in range(0, len(self), _PIECE):
            starts = self._target_starts[start : start + _PIECE + 1]
            ends = starts[1:] - 1
            last, before = self._targets[ends], self._targets[np.maximum(ends - 1, starts[:-1])]
            has_end = (last == eos_token_id) | (np.isin(last, known) & (before == eos_token_id))
            found.append(np.flatnonzero(~has_end) + start)
        return np.concatenate(found)


def _flatten(sequences: Iterable[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Concatenate token ids, and record where each sequence begins; only one sequence is read at a time."""
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
    languages: Languages | None = None,
    frame: Frame = USUAL,
) -> EncodedSet:
    """Tokenize sources and responses.

    Args:
        examples: examples with `source`, `parts`, `response` and languages.
        tokenizer: a transformers tokenizer.
        max_source_length, max_target_length: largest number of tokens, including EOS and a language code.
        truncation: what to remove from a source that is too long, as in `data.source_truncation`.
        languages: languages of a multilingual base, which include those of all rows; None for other bases.
        frame: the tokens that the base expects around a text.

    Raises:
        DataError: the tokenizer has no EOS token.
    """
    sources = SourceIds(examples, tokenizer, max_source_length, truncation, languages, frame)
    targets = TokenIds(
        (e.response for e in examples),
        tokenizer,
        max_target_length,
        as_target=True,
        languages=languages,
        codes=[e.target_lang for e in examples] if languages else (),
        frame=frame,
    )
    encoded = EncodedSet(sources, targets)
    encoded.source_cuts = sources.all_cuts
    return encoded


def encode_sources(
    rows: Sequence[PromptLike],
    tokenizer: Tokenizer,
    limit: int,
    truncation: Truncation,
    languages: Languages | None = None,
    frame: Frame = USUAL,
) -> tuple[list[list[int]], npt.NDArray[np.uint8]]:
    """Tokenize sources to at most `limit` ids each, never cutting EOS.

    Returns:
        The ids of each source, and what was cut from it: uint8 [rows], one bit for each kind of piece.
    """
    sources = SourceIds(rows, tokenizer, limit, truncation, languages, frame)
    return list(sources), sources.all_cuts


def encode_texts(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    limit: int,
    *,
    as_target: bool = False,
    languages: Languages | None = None,
    codes: Sequence[str] = (),
    frame: Frame = USUAL,
) -> tuple[list[list[int]], int]:
    """Tokenize texts to at most `limit` ids each, never cutting EOS, and count the texts that were cut.

    Args:
        texts: sources, or targets if `as_target`.
        limit: largest number of tokens in a text, including EOS and a language code.
        languages: languages of a multilingual base; None for other bases.
        codes: language code of each text; empty for texts without codes.
        frame: the tokens that the base expects around a text.
    """
    ids = TokenIds(
        texts, tokenizer, limit, as_target=as_target, languages=languages, codes=codes, frame=frame
    )
    return list(ids), ids.num_cut


def describe_cuts(part: str, cuts: npt.NDArray[np.uint8], limit: int) -> str:
    """Describe how many sources were cut and what was removed from them; "" if no source was cut.

    Args:
        part: name of the part, such as `train` or `eval`; may be "".
        cuts: as in `EncodedSet.source_cuts`.
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

"""Search for rows that repeat another, among all rows that are kept in files, by hashes of their texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.data_view import SHOWN_PLACES
from loraloom.data.example import Example
from loraloom.data.splitting.split import PARTS, HeldOut, Part, Split
from loraloom.data.stored.example_file import KEY, StoredExamples
from loraloom.data.stored.group_arrays import firsts_of

Pair = tuple[Example, Example]


class Repeats(NamedTuple):
    """Rows that repeat an earlier one.

    Args:
        num: number of such rows.
        pairs: each such row and the earlier one; for rows in files, only the first few.
    """

    num: int
    pairs: list[Pair]

    @classmethod
    def of(cls, pairs: list[Pair]) -> Repeats:
        """Create an instance from all pairs of a later row and the earlier row that it repeats."""
        return cls(len(pairs), pairs)

    @property
    def later(self) -> list[Example]:
        """The rows in `pairs` that repeat an earlier one."""
        return [later for later, _ in self.pairs]


def stored_parts(split: Split) -> dict[Part, StoredExamples]:
    """Return the parts that have rows."""
    return {part: rows for part in PARTS if (rows := getattr(split, part))}


def stored_sources(earlier: Sequence[Sequence[Example]], rows: Sequence[Example]) -> Repeats | None:
    """Pair rows with an earlier row that has the same source; None if the rows are not kept in files."""
    if not isinstance(rows, StoredExamples):
        return None
    parts = [*(own for own in earlier if isinstance(own, StoredExamples)), rows]
    keys = np.concatenate([own.file.keys[own.numbers] for own in parts])
    return _repeats(parts, keys, sum(map(len, parts[:-1])))


def stored_copies(split: Split, *, by_language: bool) -> tuple[Repeats, Repeats]:
    """Find rows that are identical to an earlier row of any part, and rows that only share its source.

    Args:
        by_language: whether equal sources count as different if their answers are in different languages.
    """
    parts = list(stored_parts(split).values())
    sources = np.concatenate([own.file.keys[own.numbers] for own in parts])
    copies = firsts_of(_mixed(sources, np.concatenate(list(map(_answers, parts)))))
    if by_language:
        sources = _mixed(sources, np.concatenate(list(map(_languages, parts))))
    again = firsts_of(sources)
    places = np.arange(len(sources), dtype=np.uint32)
    is_copy = copies != places
    return _pairs(parts, copies, np.flatnonzero(is_copy)), _pairs(
        parts, again, np.flatnonzero((again != places) & ~is_copy)
    )


def stored_responses(split: Split, part: HeldOut, shortest: int) -> tuple[Repeats, int]:
    """Pair held-out rows with the first training row that has the same response.

    Args:
        shortest: minimum number of characters; shorter responses are ignored.

    Returns:
        The pairs, and the number of held-out rows with responses of at least this length.
    """
    parts = stored_parts(split)
    if part not in parts:
        return Repeats(0, []), 0
    long = [own.chosen(np.flatnonzero(_lengths(own) >= shortest)) for own in (parts["train"], parts[part])]
    answers = np.concatenate(list(map(_answers, long)))
    keys = np.zeros(len(answers), KEY)
    keys["high"] = answers
    return _repeats(long, keys, len(long[0])), len(long[1])


def _repeats(parts: Sequence[StoredExamples], keys: npt.NDArray[np.void], num_earlier: int) -> Repeats:
    firsts = firsts_of(keys)
    later = np.flatnonzero(firsts[num_earlier:] < num_earlier) + num_earlier
    return _pairs(parts, firsts, later)


def _pairs(
    parts: Sequence[StoredExamples], firsts: npt.NDArray[np.uint32], later: npt.NDArray[np.intp]
) -> Repeats:
    ends = np.cumsum(list(map(len, parts)))

    def row(place: int) -> Example:
        part = int(np.searchsorted(ends, place, side="right"))
        found: Example = parts[part][place - (int(ends[part - 1]) if part else 0)]
        return found

    shown = later[:SHOWN_PLACES].tolist()
    return Repeats(len(later), [(row(place), row(int(firsts[place]))) for place in shown])


def _answers(examples: StoredExamples) -> npt.NDArray[np.uint64]:
    answers: npt.NDArray[np.uint64] = examples.file.records["answer"][examples.numbers]
    return answers


def _languages(examples: StoredExamples) -> npt.NDArray[np.uint64]:
    """Return a number for the language of each answer; a language has the same number in every file."""
    languages = [target.encode("utf-8", "surrogatepass") for _, target in examples.file.languages]
    names = [int.from_bytes(hashlib.blake2b(each, digest_size=8).digest(), "little") for each in languages]
    numbers: npt.NDArray[np.uint64] = np.array(names, np.uint64)[
        examples.file.records["languages"][examples.numbers]
    ]
    return numbers


def _lengths(examples: StoredExamples) -> npt.NDArray[np.uint32]:
    lengths: npt.NDArray[np.uint32] = examples.file.records["characters"][examples.numbers]
    return lengths


def _mixed(keys: npt.NDArray[np.void], numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    """Return new keys, which are equal only where both the keys and the numbers are equal."""
    mixed = np.empty(len(keys), KEY)
    mixed["high"] = keys["high"] ^ numbers
    mixed["low"] = keys["low"] ^ (numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1))
    return mixed

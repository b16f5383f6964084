"""What the data checks look at, and how they name the rows they mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.data.encoding import fit_sources
from loraloom.data.examples import Example
from loraloom.data.splitting.split import PARTS, Part, Split
from loraloom.recipe import DataSettings
from loraloom.text.units import percent

# What is not linear and cheap is done on so many rows: about two seconds.
SAMPLE_ROWS = 20_000
SHOWN_PLACES = 5

T = TypeVar("T")


@dataclass(frozen=True)
class EncodedText:
    """One side of some rows as tokens.

    Args:
        rows: all of a part, or a sample of it.
        ids: of each, EOS last, nothing cut.
    """

    rows: Sequence[Example]
    ids: list[list[int]]


@dataclass(frozen=True)
class FittedSources:
    """The sources of some rows as training reads them.

    Args:
        rows: all of a part, or a sample of it.
        ids: of each, EOS last, cut to the limit.
        cuts: what was cut of each, uint8 [rows], a bit for each kind.
    """

    rows: Sequence[Example]
    ids: list[list[int]]
    cuts: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DataView:
    """What the data checks look at.

    Args:
        split: the rows, in their three parts.
        settings: the recipe's `data`.
        tokenizer: of the base; None where it cannot be had without the model.
        without_tokenizer: why there is none.
        retained: the rows of data.retain.
        max_new_tokens: tokens that an answer may have; None where nobody is to answer.
    """

    split: Split
    settings: DataSettings
    tokenizer: TextTokenizer | None = None
    without_tokenizer: str = ""
    retained: Sequence[Example] = ()
    max_new_tokens: int | None = None
    _encoded: dict[tuple[str, str], EncodedText] = field(default_factory=dict, repr=False, compare=False)
    _fitted: dict[str, FittedSources] = field(default_factory=dict, repr=False, compare=False)

    @property
    def parts(self) -> dict[Part, list[Example]]:
        """The parts that have rows."""
        return {part: rows for part in PARTS if (rows := getattr(self.split, part))}

    @property
    def rows(self) -> list[Example]:
        """All rows of all parts."""
        return [example for rows in self.parts.values() for example in rows]

    def encoded(self, part: Part, side: Literal["source", "response"]) -> EncodedText:
        """One side of a part as tokens, made once; needs the tokenizer."""
        assert self.tokenizer is not None
        if (part, side) not in self._encoded:
            rows = sample(getattr(self.split, part))
            ids = self.tokenizer.ids([getattr(example, side) for example in rows])
            self._encoded[part, side] = EncodedText(rows, ids)
        return self._encoded[part, side]

    def fitted(self, part: Part) -> FittedSources:
        """The sources of a part as training reads them, made once; needs the tokenizer."""
        assert self.tokenizer is not None
        if part not in self._fitted:
            whole, data = self.encoded(part, "source"), self.settings
            limit, truncation = data.max_source_length, data.source_truncation
            ids, cuts = fit_sources(whole.rows, whole.ids, limit, truncation, self.tokenizer.ids)
            self._fitted[part] = FittedSources(whole.rows, ids, cuts)
        return self._fitted[part]


def sample(rows: Sequence[T], size: int = SAMPLE_ROWS) -> Sequence[T]:
    """At most so many rows, evenly spread; the same ones each time."""
    if len(rows) <= size:
        return rows
    return [rows[place * len(rows) // size] for place in range(size)]


def of_sample(seen: int, total: int) -> str:
    """How a message says that not every row was looked at."""
    return f" (looked at {seen:,} of {total:,} rows)" if seen < total else ""


def places(examples: Iterable[Example]) -> str:
    """Where rows stand: `data.json:3, 8, 21, 34, 55 and 7 more`; row numbers where lines are unknown."""
    by_file: dict[str, dict[str, None]] = {}
    for example in examples:
        number = f"row {example.row}" if example.line is None else str(example.line)
        by_file.setdefault(example.path, {})[number] = None
    return "; ".join(f"{path}:{first_few(list(numbers))}" for path, numbers in by_file.items())


def first_few(texts: Sequence[str]) -> str:
    """`3, 8, 21, 34, 55 and 7 more`."""
    more = f" and {len(texts) - SHOWN_PLACES:,} more" if len(texts) > SHOWN_PLACES else ""
    return f"{', '.join(texts[:SHOWN_PLACES])}{more}"


def share(count: int, total: int) -> str:
    """`12 of 800 (1.5 %)`."""
    return f"{count:,} of {total:,} ({percent(count / total)})"

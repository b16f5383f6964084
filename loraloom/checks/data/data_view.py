"""The input of the data checks, and how they name the rows they report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.data.example import Example
from loraloom.data.splitting.split import PARTS, Part, Split
from loraloom.data.token_ids import fit_sources
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, joined
from loraloom.text.units import percent

# Number of rows for checks that are not linear and cheap; takes about two seconds.
SAMPLE_ROWS = 20_000
# The same for rows kept in files, for all checks but those of equal rows; takes about ten seconds.
STORED_SAMPLE_ROWS = 100_000
SHOWN_PLACES = 5

Side = Literal["source", "response"]
_SIDES: dict[Side, tuple[Message, Message]] = {
    "source": (Message("source"), Message("sources")),
    "response": (Message("response"), Message("responses")),
}

T = TypeVar("T")


@dataclass(frozen=True)
class EncodedText:
    """Sources or responses of some rows, as tokens.

    Args:
        rows: all rows of a part, or a sample of them.
        ids: token ids of each text, with EOS if the base ends such texts with it; not truncated.
    """

    rows: Sequence[Example]
    ids: list[list[int]]


@dataclass(frozen=True)
class FittedSources:
    """Sources of some rows, as training reads them.

    Args:
        rows: all rows of a part, or a sample of them.
        ids: token ids of each source, with EOS if the base ends sources with it; truncated to the limit.
        cuts: what was cut from each source, uint8 [rows], one bit for each kind of piece.
    """

    rows: Sequence[Example]
    ids: list[list[int]]
    cuts: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DataView:
    """Input of the data checks.

    Args:
        split: the rows, in three parts: train, eval and test.
        settings: the recipe's `data`.
        tokenizer: tokenizer of the base; None if it is unavailable without loading the model.
        without_tokenizer: why there is no tokenizer; "" if there is one.
        retained: rows from data.retain.
        max_new_tokens: maximum number of tokens of an answer; None if nothing will be answered.
        whole: all rows, if `split` is a sample of rows that are kept in files; otherwise None.
    """

    split: Split
    settings: DataSettings
    tokenizer: TextTokenizer | None = None
    without_tokenizer: str = ""
    retained: Sequence[Example] = ()
    max_new_tokens: int | None = None
    whole: Split | None = None
    _encoded: dict[tuple[str, str], EncodedText] = field(default_factory=dict, repr=False, compare=False)
    _fitted: dict[str, FittedSources] = field(default_factory=dict, repr=False, compare=False)

    def of_sample(self) -> DataView:
        """Return a view of a sample of each part, read into memory; its `whole` is this view's split."""
        train, held_out, test = (
            list(sample(getattr(self.split, part), STORED_SAMPLE_ROWS)) for part in PARTS
        )
        split = replace(self.split, train=train, eval=held_out, test=test)
        return replace(self, split=split, whole=self.split)

    @property
    def parts(self) -> dict[Part, Sequence[Example]]:
        """Parts that have rows."""
        return {part: rows for part in PARTS if (rows := getattr(self.split, part))}

    def num_rows(self, part: Part | None = None) -> int:
        """Return the number of rows in a part, or in all parts, including rows that are not examined."""
        split = self.split if self.whole is None else self.whole
        return sum(len(getattr(split, each)) for each in (PARTS if part is None else (part,)))

    @property
    def rows(self) -> list[Example]:
        """All rows of all parts."""
        return [example for rows in self.parts.values() for example in rows]

    def encoded(self, part: Part, side: Side) -> EncodedText:
        """Tokenize the sources or responses of a part, at most once; needs the tokenizer."""
        assert self.tokenizer is not None
        if (part, side) not in self._encoded:
            rows = sample(getattr(self.split, part))
            tokenize = self.tokenizer.source_ids if side == "source" else self.tokenizer.target_ids
            ids = tokenize([getattr(example, side) for example in rows])
            self._encoded[part, side] = EncodedText(rows, ids)
        return self._encoded[part, side]

    def fitted(self, part: Part) -> FittedSources:
        """Tokenize and truncate the sources of a part as training does, at most once; needs the tokenizer."""
        assert self.tokenizer is not None
        if part not in self._fitted:
            whole, data = self.encoded(part, "source"), self.settings
            limit, truncation = data.max_source_length, data.source_truncation
            tokenize, ends = self.tokenizer.source_ids, self.tokenizer.ends_sources
            ids, cuts = fit_sources(whole.rows, whole.ids, limit, truncation, tokenize, ends=ends)
            self._fitted[part] = FittedSources(whole.rows, ids, cuts)
        return self._fitted[part]


def sample(rows: Sequence[T], size: int = SAMPLE_ROWS) -> Sequence[T]:
    """Take at most `size` rows, evenly spread and the same each time."""
    if len(rows) <= size:
        return rows
    return [rows[place * len(rows) // size] for place in range(size)]


def of_sample(seen: int, total: int) -> str:
    """Return a phrase for a message, saying that not every row was examined; "" if all were."""
    return Message(" ({seen:,} of {total:,} rows examined)", seen=seen, total=total) if seen < total else ""


def places(examples: Iterable[Example]) -> str:
    """Format line numbers, or row numbers if there are none: `data.json:3, 8, 21, 34, 55 and 7 more`."""
    by_file: dict[str, dict[str, None]] = {}
    for example in examples:
        number = f"row {example.row}" if example.line is None else str(example.line)
        by_file.setdefault(example.path, {})[number] = None
    return joined(
        "; ",
        (
            Message("{path}:{first_few}", path=path, first_few=first_few(list(numbers)))
            for path, numbers in by_file.items()
        ),
    )


def first_few(texts: Sequence[str], num_texts: int | None = None) -> str:
    """Join the first few texts: `3, 8, 21, 34, 55 and 7 more`.

    Args:
        texts: all texts, or at least those to be shown.
        num_texts: total number of texts; by default, the length of `texts`.
    """
    num_more = (len(texts) if num_texts is None else num_texts) - SHOWN_PLACES
    more = Message(" and {num_texts:,} more", num_texts=num_more) if num_more > 0 else ""
    return Message("{texts}{more}", texts=", ".join(texts[:SHOWN_PLACES]), more=more)


def share(count: int, total: int) -> str:
    """Format a count and its share: `12 of 800 (1.5 %)`."""
    return Message(
        "{count:,} of {total:,} ({count_2})", count=count, total=total, count_2=percent(count / total)
    )


def shown_side(side: Side) -> Message:
    """Return the word that messages use for a text of this side: source or response."""
    return _SIDES[side][0]


def shown_sides(side: Side) -> Message:
    """Return the word that messages use for several texts of this side: sources or responses."""
    return _SIDES[side][1]

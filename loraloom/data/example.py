"""A training example: source text, response to learn, and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from loraloom.data.formats.row import location


@dataclass(frozen=True, slots=True)
class Example:
    """One training example.

    Args:
        source: the whole source text: prefix or template, system text, history, instruction, input.
        response: the response to learn, unaltered; "" if the row is to be answered.
        path: the file, as written by the user.
        row: number of its row in the file, from 1.
        line: number of the first line of the row; None if the format has no lines.
        turn: number of the answer in its conversation or article, from 1; 0 for any other row.
        group: key of its group; examples of one group must stay in one part of a split.
        has_history: whether earlier turns of the row's conversation precede the question; False if a separate
            column contains them.
        is_shared: whether its source is a turn that occurs in many conversations. Such a turn does not put
            them into one group, so the example may be trained on but is never held out.
        parts: kinds and lengths of the pieces of the source, as returned by `source.packed`.
        source_lang, target_lang: languages as stated by the recipe or the row; "" if neither states them.
    """

    source: str
    response: str
    path: str
    row: int
    line: int | None
    turn: int
    group: str
    has_history: bool = False
    is_shared: bool = False
    parts: bytes = b""
    source_lang: str = ""
    target_lang: str = ""

    @property
    def id(self) -> tuple[str, int] | tuple[str, int, int]:
        """The id as in split.json: (path, row), or (path, row, turn) in a conversation or article."""
        return (self.path, self.row, self.turn) if self.turn else (self.path, self.row)

    @property
    def where(self) -> str:
        """The place of the row: `file:line`, or the file alone if it has no lines."""
        return location(self.path, self.line)


@runtime_checkable
class CountedExamples(Protocol):
    """Examples stored in files, with counts that are known without reading the examples."""

    @property
    def num_entries(self) -> int:
        """Number of conversations and articles that these examples come from, ignoring other rows."""

    @property
    def num_shared(self) -> int:
        """Number of examples whose source is a turn that occurs in many conversations."""


def count_entries(examples: Sequence[Example]) -> int:
    """Count the conversations and articles that examples come from, ignoring other rows."""
    if isinstance(examples, CountedExamples):
        return examples.num_entries
    return len({(example.path, example.row) for example in examples if example.turn})


def count_shared(examples: Sequence[Example]) -> int:
    """Count the examples whose source is a turn that occurs in many conversations."""
    if isinstance(examples, CountedExamples):
        return examples.num_shared
    return sum(example.is_shared for example in examples)

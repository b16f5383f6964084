"""What a layout makes of a row: questions and answers, as named values not yet checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a row that should be text, and its name for messages.

    Args:
        name: `response`, or `messages[3].content`.
        value: what stands there; `MISSING` where nothing does.
        optional: whether it may be missing or null.
    """

    name: str
    value: Any
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, their texts neither checked nor joined.

    Args:
        instruction, response: what is asked, what is answered.
        inputs: what the instruction is about, where that stands apart.
        system: how to behave, in front of everything.
        history: earlier questions and answers of the conversation.
        turn: which answer of its conversation it is, from 1; 0 outside one.
    """

    instruction: Field
    response: Field
    inputs: tuple[Field, ...] = ()
    system: Field | None = None
    history: tuple[Field, ...] = ()
    turn: int = 0


class Flaw(Exception):
    """A row's shape is not the layout's; the text says how. It becomes one `Problem` of many."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are read.

    Args:
        name: for people: `instruction/response`.
        columns: the columns it reads.
        asked: the question's columns; the first must be there. In a conversation, `input`.
        response: the answer's column.
        exchanges: a row's values to its exchanges; raises Flaw. The counter takes in what is
            left out and should be told.
        holes: what a `source_prefix` template may name; None for the row's own columns.
    """

    name: str
    columns: tuple[str, ...]
    asked: tuple[str, ...]
    response: str
    exchanges: Callable[[Values, Counter[str]], Iterator[Exchange]]
    holes: tuple[str, ...] | None = None


Recogniser = Callable[[Values], Layout | None]

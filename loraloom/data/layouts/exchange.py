"""What a layout makes of a row: questions and answers, as named values not yet checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.recipe import DataSettings

Values = Mapping[str, Any]

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: missing, null, NaN or blank."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is MISSING or value is None or (isinstance(value, str) and not value.strip())


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a row that should be text, and its name for messages.

    Args:
        name: `response`, or `messages[3].content`.
        value: what stands there; `MISSING` where nothing does.
        optional: whether it may be missing or null.
        label: what the source says in front of its text, as in `premise: `.
        number: whether it is text all the same if it is a number or a boolean, as a class is.
    """

    name: str
    value: Any
    optional: bool = False
    label: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, their texts neither checked nor joined.

    Args:
        instruction: what is asked.
        response: what is answered; None for a question that is still to be answered.
        inputs: what the instruction is about, where that stands apart.
        system: how to behave, in front of everything.
        history: earlier questions and answers of the conversation.
        history_is_given: whether the row has its history in a column, so that it belongs to the question.
        turn: which answer of its conversation it is, from 1; 0 outside one.
    """

    instruction: Field
    response: Field | None
    inputs: tuple[Field, ...] = ()
    system: Field | None = None
    history: tuple[Field, ...] = ()
    history_is_given: bool = False
    turn: int = 0

    @property
    def asked_name(self) -> str:
        """What is blank if it asks nothing; of texts that are labelled, each must be there."""
        labelled = [field for field in (self.instruction, *self.inputs) if field.label]
        blank = [field.name for field in labelled if not str(field.value or "").strip()]
        return blank[0] if blank else self.instruction.name


class Flaw(Exception):
    """A row's shape is not the layout's; the text says how. It becomes one `Problem` of many.

    Args:
        what: what is wrong.
        fix: what to do.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


class UnknownRoles(Flaw):
    """A conversation has turns of roles that are not known.

    Args:
        places: each role -> where it first stands, such as `messages[2].role`.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__(", ".join(places))
        self.places = places


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """What a recipe says about how rows are read.

    Args:
        columns: `data.columns`: which column is what.
        labels: `data.labels`: the names of classes that are numbers.
        roles: `data.roles`: system, user, assistant or ignored -> names of roles.
        answer_weights: `data.answer_weights`.
        context_columns: `data.context_columns`.
        to_answer: the rows are to be answered: a question at the end of a conversation is asked.
        with_answers: whether known answers are looked at.
    """

    columns: Mapping[Any, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    roles: Mapping[Any, list[str]] = field(default_factory=dict)
    answer_weights: bool = True
    context_columns: bool = True
    to_answer: bool = False
    with_answers: bool = True

    @classmethod
    def of(
        cls, settings: DataSettings, *, to_answer: bool = False, with_answers: bool = True
    ) -> LayoutOptions:
        """What a recipe says about how rows are read."""
        return cls(
            columns=settings.columns,
            labels=settings.labels,
            roles=settings.roles,
            answer_weights=settings.answer_weights,
            context_columns=settings.context_columns,
            to_answer=to_answer,
            with_answers=with_answers,
        )

    def needs(self, answer: Field) -> bool:
        """Whether an answer is read: not one that is empty or not looked at, if rows are to be answered."""
        return self.with_answers and not (self.to_answer and is_empty(answer.value))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are read.

    Args:
        name: for people: `instruction/response`.
        columns: the columns it reads.
        asked: the question's columns; the first must be there. In a conversation, `input`.
        response: the answer's column.
        exchanges: a row's values to its exchanges; raises Flaw.
        holes: what a `source_prefix` template may name; None for the row's own columns.
        entry: what a row of the file is, if it gives several examples.
        context: columns beside the question that are read as its system text and its history.
    """

    name: str
    columns: tuple[str, ...]
    asked: tuple[str, ...]
    response: str
    exchanges: Callable[[Values, LayoutOptions, LayoutNotes], Iterator[Exchange]]
    holes: tuple[str, ...] | None = None
    entry: str = ""
    context: tuple[str, ...] = ()


Recogniser = Callable[[Values], Layout | None]

"""The output of a layout: questions and answers of a row, not yet checked."""

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
    """Return whether a value is empty: missing, null, NaN or blank."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is MISSING or value is None or (isinstance(value, str) and not value.strip())


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a row that should be text, and its name for messages.

    Args:
        name: `response`, or `messages[3].content`.
        value: the value; `MISSING` if there is none.
        optional: whether it may be missing or null.
        label: text in front of it in the source, such as `premise: `.
        number: whether a number or boolean is accepted and converted to text, as for a class label.
    """

    name: str
    value: Any
    optional: bool = False
    label: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, with texts neither checked nor joined.

    Args:
        instruction: the question.
        response: the answer; None for a question that is yet to be answered.
        inputs: what the instruction is about, if given separately.
        system: instructions on how to behave, placed first.
        history: earlier questions and answers of the conversation.
        history_is_given: whether a column contains the history, which is then used even without
            `data.conversation_history`.
        turn: number of the answer in its conversation or article, from 1; 0 for any other row.
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
        """The field to report for a blank question: its first blank text with a label, or the instruction."""
        labelled = [field for field in (self.instruction, *self.inputs) if field.label]
        blank = [field.name for field in labelled if not str(field.value or "").strip()]
        return blank[0] if blank else self.instruction.name


class Flaw(Exception):
    """A row does not have the shape of its layout; each such row is reported as a `Problem` of the file.

    Args:
        what: the problem.
        fix: what to do about it.
    """

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


class UnknownRoles(Flaw):
    """A conversation has turns of unknown roles.

    Args:
        places: each role -> its first place, such as `messages[2].role`.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__(", ".join(places))
        self.places = places


@dataclass(frozen=True, slots=True)
class LayoutOptions:
    """The settings of a recipe that decide how rows are read.

    Args:
        columns: `data.columns`: the role of each column.
        labels: `data.labels`: names for classes that are numbers in the data.
        roles: `data.roles`: system, user, assistant or ignored -> role names that stand for it in the data.
        answer_weights: `data.answer_weights`.
        context_columns: `data.context_columns`.
        to_answer: whether the rows are to be answered, including a question at the end of a conversation.
        with_answers: whether to read known answers.
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
        """Take the options from a recipe's `data` settings."""
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
        """Return whether an answer must be valid.

        It need not be valid if answers are not read, or if it is empty and its row is to be answered.
        """
        return self.with_answers and not (self.to_answer and is_empty(answer.value))


@dataclass(frozen=True, slots=True)
class Layout:
    """A way to read the rows of a file.

    Args:
        name: name for users: `instruction/response`.
        columns: the columns it reads.
        asked: columns of the question, the first of which is required; `input` for a conversation.
        response: column of the answer.
        exchanges: converts a row's values to its exchanges; raises Flaw.
        holes: placeholders allowed in a `source_prefix` template; None if they are the columns of the row.
        entry: what to call a row of the file, if it yields several examples.
        context: columns besides the question that are read as its system text and history.
        languages: languages of question and answer, if they are the keys of a translation.
    """

    name: str
    columns: tuple[str, ...]
    asked: tuple[str, ...]
    response: str
    exchanges: Callable[[Values, LayoutOptions, LayoutNotes], Iterator[Exchange]]
    holes: tuple[str, ...] | None = None
    entry: str = ""
    context: tuple[str, ...] = ()
    languages: tuple[str, str] | None = None


Recogniser = Callable[[Values], Layout | None]

"""Events that are shown but not logged, because other files of the run contain what they say.

Of these, the log has the notes of training alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from loraloom.run.documents.checks import Finding
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.document import JsonObject, Text
from loraloom.run.documents.prediction import Prediction
from loraloom.run.events.event import Event


@dataclass(frozen=True, kw_only=True)
class Note(Event):
    """Something worth knowing.

    Args:
        message: a sentence for people; never a row's text.
        step: of the run, if training says it.
    """

    kind: ClassVar[str] = "note"

    message: Text
    step: int | None = None

    def to_json(self) -> JsonObject:
        """Without a step if there is none."""
        line = super().to_json()
        if self.step is None:
            del line["step"]
        return line


@dataclass(frozen=True, kw_only=True)
class WarningNote(Event):
    """Something to be aware of before the result is used.

    Args:
        message: a sentence for people; never a row's text.
    """

    kind: ClassVar[str] = "warning"

    message: Text


@dataclass(frozen=True, kw_only=True)
class RowCounts(Event):
    """The data was read and split.

    Args:
        train, eval, test: rows of each part.
    """

    kind: ClassVar[str] = "data"

    train: int
    eval: int
    test: int


@dataclass(frozen=True, kw_only=True)
class BaseChoices(Event):
    """The base was loaded.

    Args:
        choices: its device and dtype, each with the reason.
    """

    kind: ClassVar[str] = "base"

    choices: Mapping[str, Choice]


@dataclass(frozen=True, kw_only=True)
class CheckResults(Event):
    """Every check was run.

    Args:
        findings: of all of them.
    """

    kind: ClassVar[str] = "checks"

    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True)
class StepTiming(Event):
    """One step is about to be timed, and thrown away."""

    kind: ClassVar[str] = "timing"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Event):
    """How the run will train, decided before its first step.

    Args:
        folder: of the run.
        choices: every automatic one, with its reason.
        plan: what it will take; None if that is not known.
        findings: whether machine and disk hold it.
    """

    kind: ClassVar[str] = "plan"

    folder: str
    choices: Mapping[str, Choice]
    plan: Prediction | None
    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True)
class AnswerProgress(Event):
    """More rows were answered.

    Args:
        done, total: rows.
    """

    kind: ClassVar[str] = "answered"

    done: int
    total: int

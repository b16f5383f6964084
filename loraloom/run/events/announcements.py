"""Events that are shown but not logged, because other files of the run contain their content.

The only exception is a note from training, which is also logged.
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
    """Useful information.

    Args:
        message: a sentence for people; it never contains text from a row.
        step: step of the run, if the note is from training.
    """

    kind: ClassVar[str] = "note"

    message: Text
    step: int | None = None

    def to_json(self) -> JsonObject:
        """Return the event as JSON, without a step if there is none."""
        line = super().to_json()
        if self.step is None:
            del line["step"]
        return line


@dataclass(frozen=True, kw_only=True)
class WarningNote(Event):
    """Information that the user must know before using the result.

    Args:
        message: a sentence for people; it never contains text from a row.
    """

    kind: ClassVar[str] = "warning"

    message: Text


@dataclass(frozen=True, kw_only=True)
class RowCounts(Event):
    """The data was read and split.

    Args:
        train, eval, test: number of rows in each part.
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
    """All checks were run.

    Args:
        findings: findings of all checks.
    """

    kind: ClassVar[str] = "checks"

    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True)
class StepTiming(Event):
    """One step is about to be timed; its result is discarded."""

    kind: ClassVar[str] = "timing"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Event):
    """The plan of a training run, made before its first step.

    Args:
        folder: folder of the run.
        choices: every automatic choice, with its reason.
        plan: predicted resources; None if unknown.
        findings: findings on whether memory and disk space are sufficient.
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
        done, total: number of rows answered so far, and of all rows to answer.
    """

    kind: ClassVar[str] = "answered"

    done: int
    total: int

"""Exception hierarchy of LoRALoom.

    LoRALoomError
    ├── RecipeError          a key or value of a recipe, or of a command's options
    ├── DataError            a data file, one of its rows, or a split
    ├── ModelError           a base model's folder, its tokenizer, its dtype or device
    │   └── TargetError      a target name that matches nothing, or a module that must not be adapted
    ├── AdapterError         an adapter folder that does not belong to this base, or is damaged
    ├── BankError            a base that another thread, bank or pass is using
    ├── RunError             a run directory that is in use, incomplete, or of another recipe
    │   └── CheckpointError  a checkpoint that is damaged or incomplete
    ├── CheckError           a check before training found an error
    └── TrainingError        training cannot continue
    Interrupted              SIGINT, SIGTERM or a program requested a stop; all progress is saved

A `LoRALoomError` carries one or more `Problem`s, so that a user sees everything that is wrong
at once. Its text is the complete message: what happened, where, what was found, what is allowed,
and the fix. The command line prints it without a traceback and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loraloom.text.message import Message, joined
from loraloom.text.visible import visible

SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        what: what is wrong, as one sentence; without a full stop at its end if a value follows.
        where: file and line (`data.json:17`), key (`training.learning_rate`) or path.
        found: what was found there, shortened; never the text of a data row.
        allowed: what is allowed there.
        fix: what to do about it.
    """

    what: str
    where: str = ""
    found: str = ""
    allowed: str = ""
    fix: str = ""

    def __str__(self) -> str:
        return str(self.as_message())

    def as_message(self) -> Message:
        """Return the whole problem as one message, with invisible characters escaped."""
        text = self.without_place
        if self.where:
            text = Message("{where}: {what}", where=self.where, what=text)
        if self.fix:
            text = Message("{problem:clause}. {fix}", problem=text, fix=self.fix)
        return Message("{problem:sentence}", problem=text).mapped(visible)

    @property
    def without_place(self) -> str:
        """What is wrong, what was found and what is allowed, without the place and the fix."""
        text = self.what
        if self.found:
            text = Message("{problem} (found: {found})", problem=text, found=self.found)
        if self.allowed:
            text = Message("{problem:clause}. Allowed: {allowed}", problem=text, allowed=self.allowed)
        return text


class LoRALoomError(Exception):
    """Base class of errors that carry a message for the user.

    Args:
        what: the message, a `Problem`, or several problems.
        where, found, allowed, fix: as in `Problem`; ignored unless `what` is a message.
    """

    def __init__(
        self,
        what: str | Problem | Iterable[Problem],
        *,
        where: str = "",
        found: str = "",
        allowed: str = "",
        fix: str = "",
    ) -> None:
        if isinstance(what, str):
            self.problems: tuple[Problem, ...] = (Problem(what, where, found, allowed, fix),)
        else:
            self.problems = (what,) if isinstance(what, Problem) else tuple(what)
        super().__init__(str(self.as_message()))

    def as_message(self) -> Message:
        """Return the complete message, in a form that a message catalogue can translate."""
        return render(self.problems)


def render(problems: tuple[Problem, ...]) -> Message:
    """Render problems as one message: a line for each of the first 20, and the total if there are several."""
    total = len(problems)
    lines = [problem.as_message() for problem in problems[:SHOWN_PROBLEMS]]
    if total > SHOWN_PROBLEMS:
        more = total - SHOWN_PROBLEMS
        lines.append(
            Message("… and {num_more} more ({num_problems} in all).", num_more=more, num_problems=total)
        )
    elif total > 1:
        lines.append(Message("{num_problems} problems in all.", num_problems=total))
    return joined("\n", lines)


class RecipeError(LoRALoomError):
    """A key or value of a recipe, or of a command's options, is invalid."""


class DataError(LoRALoomError):
    """A data file, one of its rows, or a split is invalid."""


class ModelError(LoRALoomError):
    """The base model's folder, tokenizer, dtype or device is invalid."""


class TargetError(ModelError):
    """A target name matches no module, or names a module that must not be adapted."""


class AdapterError(LoRALoomError):
    """An adapter folder is damaged, or does not belong to this base."""


class BankError(LoRALoomError):
    """A base is in use by another thread, bank or pass; two users at once would mix their adapters."""


class RunError(LoRALoomError):
    """A run directory is in use, belongs to another recipe, or is incomplete."""


class CheckpointError(RunError):
    """A checkpoint is damaged or incomplete."""


class CheckError(LoRALoomError):
    """A check before training found an error."""


class TrainingError(LoRALoomError):
    """Training cannot continue."""


class Interrupted(Exception):
    """A stop was requested, and all progress is saved.

    Args:
        signal_number: 2 (SIGINT) or 15 (SIGTERM), after which a command exits with 128 plus this number;
            0 if a program requested the stop.
        message: the progress and how to resume.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.message = message

    def as_message(self) -> str:
        """Return the message, in a form that a message catalogue can translate."""
        return self.message

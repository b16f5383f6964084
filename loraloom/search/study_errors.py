"""Errors about a study's database; they state what is kept and how to continue."""

from __future__ import annotations

from pathlib import Path

from loraloom.errors import RunError
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.text.message import Message
from loraloom.text.visible import one_line

FILE = "study.db"


def unusable_study(file: Path, cause: str) -> RunError:
    """Return the error for a database that stays locked or cannot be used.

    Args:
        file: the database.
        cause: the database's own message.
    """
    is_locked = "locked" in cause
    return RunError(
        (
            Message("the study's database stays locked by another program")
            if is_locked
            else Message("the study's database cannot be used")
        ),
        where=str(file),
        found=cause,
        fix=Message(
            "Everything trained is kept in the run's {ledger_file}, adapters/ and checkpoints/. ",
            ledger_file=LEDGER_FILE,
        )
        + (
            Message("Close the other program")
            if is_locked
            else Message(
                "Remove {file}, which is created again from {ledger_file}",
                file=FILE,
                ledger_file=LEDGER_FILE,
            )
        )
        + Message(", and resume with --resume {parent}.", parent=file.parent),
    )


def cause_of(error: BaseException) -> str:
    """Return the database's own message for an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    message = str(getattr(error, "orig", None) or error) or type(error).__name__
    return one_line(message)

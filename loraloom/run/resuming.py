"""The kind of a run, and the command that resumes it."""

from __future__ import annotations

import shlex

from loraloom.errors import RunError
from loraloom.run.documents.range_test import FILE as RANGE_TEST_FILE
from loraloom.run.folder import Run
from loraloom.text.message import Message


def is_search(run: Run) -> bool:
    """Return whether a run is a search, according to provenance.json, which exists from the run's start."""
    try:
        known = run.read_json(run.provenance_file)
    except RunError:  # resuming the run reports the damage
        return False
    return isinstance(known, dict) and "search" in known


def is_range_test(run: Run) -> bool:
    """Return whether a run is a learning-rate range test, which keeps no adapters."""
    return (run.folder / RANGE_TEST_FILE).is_file()


def how_to_resume(run: Run) -> str:
    """Return how to resume a run: a clause without a full stop, for the fix in an error message."""
    folder = shlex.quote(str(run.folder))
    if is_search(run):
        return Message(
            "run its `loraloom search` command with `--resume {folder}` instead of `--out`", folder=folder
        )
    return Message("run `loraloom train --resume {folder}`", folder=folder)

"""The end of a command that fails or is interrupted: what it leaves of its run, and what it removes."""

from __future__ import annotations

import os
import shutil

from loraloom.data.stored.row_files import has_read_files
from loraloom.errors import LoRALoomError
from loraloom.run.events import Note, Report, TrainStep, TrialStart
from loraloom.run.folder import Run
from loraloom.run.resuming import how_to_resume
from loraloom.text.message import Message

# Once the log contains one of these, the run can be resumed.
FRUITFUL = (TrainStep, TrialStart)


def leave(run: Run, error: BaseException, report: Report, *, is_named: bool, is_resumable: bool) -> None:
    """Remove a new run, unless a command can go on with it; then say how, if rows were read into files.

    Args:
        run: the locked run.
        error: what ends the command that created it.
        report: called with a note.
        is_named: whether the user named its folder.
        is_resumable: whether the command can resume a run.
    """
    is_of_use = is_resumable and _is_of_use(run, error, is_named=is_named)
    if not is_of_use:
        # Windows does not delete a locked file; a new run replaces what is left.
        shutil.rmtree(run.folder, ignore_errors=os.name == "nt")
    elif run.rows.is_dir() and not _bore_fruit(run):
        how = how_to_resume(run) if run.is_started else Message("start the same command again")
        kept = Message("the rows read so far are kept in {rows}; to go on, {how}", rows=run.rows, how=how)
        report(Note(message=kept))


def _is_of_use(run: Run, error: BaseException, *, is_named: bool) -> bool:
    if isinstance(error, LoRALoomError):
        return _bore_fruit(run)
    # Without --out, the same command chooses a new folder, and never finds rows again that belong to no run.
    return run.is_started or (is_named and has_read_files(run.rows))


def _bore_fruit(run: Run) -> bool:
    has_results = any(any(part.iterdir()) for part in (run.checkpoints, run.adapters))
    return has_results or any(isinstance(event, FRUITFUL) for event in run.events())

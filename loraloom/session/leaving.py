"""Cleanup after a command that failed or was interrupted: which files of its run are kept or removed."""

from __future__ import annotations

import os
import shutil

from loraloom.data.stored.row_files import has_read_files
from loraloom.errors import LoRALoomError
from loraloom.run.events import Note, Report, TrainStep, TrialStart
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.run.lock import guard_file
from loraloom.run.resuming import how_to_resume
from loraloom.text.message import Message

# Once the log contains one of these, the run can be resumed.
FRUITFUL = (TrainStep, TrialStart)


def leave(run: Run, error: BaseException, report: Report, *, is_named: bool, is_resumable: bool) -> None:
    """Remove a new run, unless a command can continue it; report whether rows kept in files can be reused.

    After an error, the corrected command starts a new run. If that is in the same folder, it reuses the rows
    already read, provided that the data files and the settings for reading them are unchanged.

    Args:
        run: the locked run.
        error: the error that ended the command.
        report: called with a note.
        is_named: whether the user chose the run's folder.
        is_resumable: whether the command can resume a run.
    """
    has_rows = has_read_files(run.rows)
    if is_resumable and _is_of_use(run, error, is_named=is_named):
        if run.rows.is_dir() and not _bore_fruit(run):
            how = how_to_resume(run) if run.is_started else Message("start the same command again")
            kept = Message(
                "the rows read so far are kept in {rows}; to continue, {how}", rows=run.rows, how=how
            )
            report(Note(message=kept))
    elif is_resumable and is_named and has_rows:
        _remove_all_but_rows(run)
        kept = Message(
            "the rows read so far are kept in {rows}; the corrected command reuses them if it has the same "
            "data and the same --out",
            rows=run.rows,
        )
        report(Note(message=kept))
    else:
        # Windows does not delete a locked file; a new run replaces the leftovers.
        shutil.rmtree(run.folder, ignore_errors=os.name == "nt")
        if has_rows and is_resumable:
            removed = Message(
                "the rows read so far are removed, so the next command reads the data again; rows are kept "
                "for reuse only if --out is given"
            )
            report(Note(message=removed))


def _remove_all_but_rows(run: Run) -> None:
    lock = run.folder / LOCK_FILE
    for path in run.folder.iterdir():
        if path.is_dir() and path != run.rows:
            shutil.rmtree(path)
        elif path not in (run.rows, lock, guard_file(lock)):
            path.unlink()


def _is_of_use(run: Run, error: BaseException, *, is_named: bool) -> bool:
    if isinstance(error, LoRALoomError):
        return _bore_fruit(run)
    # Without --out, the same command chooses a new folder, and never finds rows again that belong to no run.
    return run.is_started or (is_named and has_read_files(run.rows))


def _bore_fruit(run: Run) -> bool:
    has_results = any(any(part.iterdir()) for part in (run.checkpoints, run.adapters))
    return has_results or any(isinstance(event, FRUITFUL) for event in run.events())

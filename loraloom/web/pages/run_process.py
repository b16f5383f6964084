"""The process that works on a run, wherever it was started: its id and memory, and how to stop it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import psutil

from loraloom.errors import RunError
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.run.lock import holder
from loraloom.text.message import Message


@dataclass(frozen=True)
class RunProcess:
    """A process that holds the lock of a run.

    Args:
        pid: its process id.
        memory_bytes: its resident memory.
    """

    pid: int
    memory_bytes: int


def process_of(run: Run) -> RunProcess | None:
    """Return the process that works on a run; None if there is none."""
    pid = holder(run.folder / LOCK_FILE)
    if pid is None:
        return None
    try:
        return RunProcess(pid, psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


# Processes that were asked to end, by process id and time of their start.
_asked: set[tuple[int, float]] = set()


def stop_process(run: Run) -> None:
    """Ask the process that works on a run to finish its step, save and end, as `kill PID` does.

    The signal is sent only once, because a second one would end the process before it has saved.

    Raises:
        RunError: no process of this user works on the run.
    """
    found = process_of(run)
    if found is None or found.pid == os.getpid() or not _has_open(found.pid, run):
        raise RunError(
            Message("no process works on this run, so there is nothing to stop"), where=run.folder.name
        )
    try:
        asked = found.pid, psutil.Process(found.pid).create_time()
        if asked not in _asked:
            _asked.add(asked)
            os.kill(found.pid, signal.SIGTERM)
    except psutil.NoSuchProcess:
        return
    except OSError as error:
        raise RunError(
            Message("the process cannot be stopped: {reason}", reason=error.strerror or str(error)),
            where=run.folder.name,
        ) from None


def _has_open(pid: int, run: Run) -> bool:
    """Return whether a process has the run's lock file open, because the process id in it may be wrong."""
    lock = (run.folder / LOCK_FILE).resolve()
    try:
        return any(opened.path == str(lock) for opened in psutil.Process(pid).open_files())
    except psutil.Error:
        return False

"""Temporary folders, and removal of those left behind by killed processes.

    loraloom-MACHINE-k3x9q2/   in the folder of temporary files
      lock    held by the process that uses the folder; the system releases it, however that process ends
      files/  its files; created once the lock is held, so that no other process removes a new folder

Neither the name of a folder nor a free lock is reason enough to remove it. The folder may be another user's.
If machines share the folder of temporary files, another machine may hold the lock: on some file systems, such
as BeeGFS, a lock applies only to its own machine.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loraloom.errors import RunError
from loraloom.run.lock import locked
from loraloom.text.message import Message

# Prefix of names on this machine; the random part after the last "-" contains no "-".
PREFIX = f"loraloom-{re.sub('[^A-Za-z0-9.-]', '_', platform.node())[:64]}-"
LOCK, FILES = "lock", "files"
# Another process that looks for leftovers may hold the lock of a new folder for a moment.
PATIENCE_SECONDS = 10.0
# Without locks, a folder is removed by its own process alone.
_NO_LOCK = (RunError, OSError, NotImplementedError)


class ScratchFolder:
    """A temporary folder, removed when this object is no longer referenced, or when the process ends.

    Folders left on this machine by killed processes of this user are removed first.

    Raises:
        RunError: no folder can be created.
    """

    def __init__(self) -> None:
        remove_leftovers()
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            holding = _held(folder)
            self.path = folder / FILES
            self.path.mkdir()
        except OSError as error:
            raise RunError(
                Message("no temporary folder can be created: {reason}", reason=error.strerror or error),
                where=os.environ.get("TMPDIR", ""),
                fix=Message("Set TMPDIR to a writable folder with free space."),
            ) from None
        self._end = weakref.finalize(self, _remove, folder, holding, os.getpid())

    def remove(self) -> None:
        """Remove the folder now."""
        self._end()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a temporary folder for a `with` block."""
    own = ScratchFolder()
    try:
        yield own.path
    finally:
        own.remove()


def _held(folder: Path) -> ExitStack:
    """Hold the lock of a new folder.

    Where locks do not work, the lock file is removed, so that other processes do not remove the folder.
    """
    holding = ExitStack()
    try:
        holding.enter_context(locked(folder / LOCK, patience=PATIENCE_SECONDS))
    except _NO_LOCK:
        (folder / LOCK).unlink(missing_ok=True)
    return holding


def remove_leftovers() -> None:
    """Remove folders that killed processes of this user left on this machine; links are not followed."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.rpartition("-")[0] == PREFIX[:-1] and _is_own_folder(entry):
                _remove_unused(Path(entry.path))


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    try:
        own = getattr(os, "geteuid", lambda: 0)()  # Windows has none, and reports 0 for every folder
        is_own = entry.stat(follow_symlinks=False).st_uid == own
        return is_own and entry.is_dir(follow_symlinks=False)
    except OSError:  # its process has just removed it
        return False


def _remove_unused(folder: Path) -> None:
    lock, files = folder / LOCK, folder / FILES
    if lock.is_symlink() or not lock.is_file() or not files.is_dir():
        return
    with contextlib.suppress(*_NO_LOCK):
        with locked(lock, patience=0):
            shutil.rmtree(files, ignore_errors=True)
        _remove_empty(folder)


def _remove(folder: Path, holding: ExitStack, pid: int) -> None:
    if os.getpid() != pid:  # a forked child: the folder is its parent's
        return
    shutil.rmtree(folder / FILES, ignore_errors=True)
    with contextlib.suppress(OSError):
        holding.close()
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    if not (folder / FILES).exists():  # on Windows, a file in it may still be open: next time
        shutil.rmtree(folder, ignore_errors=True)

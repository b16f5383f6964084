"""One process at a time in a folder, whoever dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraloom.errors import RunError

# A process that only asks whose the folder is holds the lock for a moment, and a holder writes its pid
# only after it has the lock.
PATIENCE_SECONDS = 0.2


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder that a lock file lies in for this process alone.

    POSIX record locks are not inherited by children, so a worker that outlives the process does not
    keep the folder locked; the kernel drops the lock however the process ends.

    Args:
        path: the lock file, made where it is not; it then has the holder's process id.

    Raises:
        RunError: another process holds it; the message has its process id.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _take(descriptor, path):
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            raise RunError(
                f"another process works on this run (pid {holder or 'unknown'})",
                where=str(path.parent),
                fix="Wait for it, or stop it, and try again.",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path) -> bool:
    """Take the lock of an open file; False where another process keeps it.

    Raises:
        RunError: the holder removed the folder, and with it the file; or this file system has no locks.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _try(descriptor, path):
        if time.monotonic() > deadline:
            return False
        time.sleep(PATIENCE_SECONDS / 10)
    if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise RunError("the run was removed a moment ago", where=str(path.parent), fix="Try again.")
    return True


def _try(descriptor: int, path: Path) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise RunError(f"cannot be locked: {error.strerror}", where=str(path)) from None
    return True

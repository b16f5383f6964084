"""A lock for each folder or file that ends with the process that holds it.

The lock is filelock's, which knows POSIX and Windows. Before filelock 4.0 a forked worker that outlived a
killed process kept it; since then a child lets go of it when it is forked (a test holds that).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraloom.errors import RunError
from loraloom.text.message import Message

with warnings.catch_warnings(action="ignore"):  # it says so if it finds no system's locks
    import filelock

# A process that only asks whose the folder is holds the lock for a moment, and a holder writes its pid
# only after it has the lock.
PATIENCE_SECONDS = 0.2
# A report or a card is written in about a second: whoever comes second waits, and writes what is newer.
WRITING_SECONDS = 10.0
# What Windows has locked nobody else can read, so there a file beside it is locked, and the pid is readable.
LOCKS_A_GUARD = sys.platform == "win32"

# What this process holds, by process id and path: filelock would let another thread wait, not refuse it.
_held: set[tuple[int, str]] = set()
_mutex = threading.Lock()


@contextmanager
def locked(
    path: Path,
    *,
    doing: str = Message("works on this run"),
    where: Path | None = None,
    fix: str = Message("Wait for it, or stop it, and try again."),
    is_temporary: bool = False,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[None]:
    """Hold what a lock file stands for, for this process and this call alone.

    It is not inherited by children, so a worker that outlives the process does not keep it locked, and it
    ends however the process ends.

    Args:
        path: the lock file, made where it is not; it then has the holder's process id.
        doing: what a holder does, for the message.
        where: what is locked, for the message; by default the folder of the lock file.
        fix: what one who is refused can do.
        is_temporary: remove the file afterwards; else it stays.
        patience: seconds to wait for another holder.

    Raises:
        RunError: another process holds it; the message has its process id.
        OSError: the folder cannot be written to, or a symbolic link is in the file's place.
    """
    where = where or path.parent
    deadline = time.monotonic() + patience
    while not _claim(path):
        if time.monotonic() > deadline:
            pid = os.getpid()
            raise RunError(
                Message("this process {doing} already (pid {pid})", doing=doing, pid=pid),
                where=str(where),
                fix=fix,
            )
        time.sleep(PATIENCE_SECONDS / 10)
    try:
        with (
            _found(path) as before,
            _acquired(path, deadline, Message("another process {doing}", doing=doing), where, fix),
        ):
            if before is not None and before != _identity(path) and not is_temporary:
                path.unlink(missing_ok=True)
                raise RunError(
                    Message("the run was removed a moment ago"),
                    where=str(path.parent),
                    fix=Message("Try again."),
                )
            _write_pid(path)
            try:
                yield
            finally:
                if is_temporary:
                    _remove(path)
    finally:
        _held.discard(_key(path))


@contextmanager
def _acquired(path: Path, deadline: float, who: str, where: Path, fix: str) -> Iterator[None]:
    if path.is_symlink():
        raise OSError(errno.ELOOP, "symbolic links are not followed here", str(path))
    if not path.parent.is_dir():  # filelock would make it, and a mistyped folder would be written to
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    lock = _lock(path)
    try:
        lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=PATIENCE_SECONDS / 10)
    except filelock.Timeout:
        pid = path.read_text(errors="replace").strip() if path.is_file() else ""
        raise RunError(
            Message("{who} (pid {pid})", who=who, pid=(pid or "unknown")), where=str(where), fix=fix
        ) from None
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(guard_file(path) if LOCKS_A_GUARD else path, mode=0o600, thread_local=False)


def guard_file(path: Path) -> Path:
    """What is locked in place of a lock file on Windows."""
    return path.with_name(f"{path.name}.guard")


@contextmanager
def _found(path: Path) -> Iterator[tuple[int, int] | None]:
    """Which file is there now; None if there is none. Meanwhile no other file gets its number."""
    descriptor = None
    if not LOCKS_A_GUARD:  # on Windows, what is open could not be removed
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with contextlib.suppress(OSError):
            descriptor = os.open(path, flags)
    try:
        yield _identity(path)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _write_pid(path: Path) -> None:
    """Say who holds the lock; never through a link that somebody laid there, because the file is emptied."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        file.write(f"{os.getpid()}\n")


def _remove(path: Path) -> None:
    """Remove a lock file while it is held: another's file of this name is never removed.

    Whoever waits for a file that is removed begins anew (filelock), with none or a new one.
    """
    path.unlink(missing_ok=True)
    if LOCKS_A_GUARD:
        with contextlib.suppress(OSError):  # Windows removes nothing that is open
            guard_file(path).unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, doing: str) -> Iterator[None]:
    """Hold a file that is replaced as a whole, from reading what goes into it until it is replaced.

    Two processes would share one staged file beside it, and the older content could come last.

    Args:
        path: the file.
        doing: what a holder does, for the message.

    Raises:
        RunError: another process still holds it after some seconds; the message has its process id.
        OSError: its folder cannot be written to.
    """
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, doing=doing, where=path, is_temporary=True, patience=WRITING_SECONDS):
        yield


def is_held(path: Path) -> bool:
    """Whether some process, this one included, holds the lock of a lock file now.

    It is tried, so whoever comes at the same moment waits for it. If it cannot be tried, because the folder
    is read-only or its file system has no locks, nobody is said to hold it.
    """
    with _mutex:
        if _key(path) in _held:
            return True
        if path.is_symlink() or not (guard_file(path) if LOCKS_A_GUARD else path).exists():
            return False
        lock = _lock(path)
        try:
            lock.acquire(timeout=PATIENCE_SECONDS, poll_interval=PATIENCE_SECONDS / 10)
        except filelock.Timeout:
            return True
        except OSError:
            return False
        lock.release()
        return False


def _key(path: Path) -> tuple[int, str]:
    return os.getpid(), str(path.parent.resolve() / path.name)


def _claim(path: Path) -> bool:
    """Note that this process is about to lock a path; False where it has it already."""
    with _mutex:
        if _key(path) in _held:
            return False
        _held.add(_key(path))
        return True

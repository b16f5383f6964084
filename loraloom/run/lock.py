"""Locks on folders and files; a lock ends with the process that holds it.

The implementation is filelock, which supports POSIX and Windows. Before filelock 4.0, a forked worker that
outlived a killed process kept the lock; since then, a child releases it when it is forked (a test verifies
this).
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

with warnings.catch_warnings(action="ignore"):  # filelock warns if the system has no locks
    import filelock

# A process that only tests whether the folder is locked holds the lock for a moment, and a holder
# writes its pid only after it has the lock.
PATIENCE_SECONDS = 0.2
# A report or a card is written in about a second, so a second writer waits, and writes the newer content.
WRITING_SECONDS = 10.0
# On Windows, a locked file is unreadable, so a second file is locked, and the pid stays readable.
LOCKS_A_GUARD = sys.platform == "win32"

# Locks of this process, by process id and path; filelock would make another thread wait, not refuse it.
_held: set[tuple[int, str]] = set()
_mutex = threading.Lock()


@contextmanager
def locked(
    path: Path,
    *,
    doing: str = Message("is using this run"),
    where: Path | None = None,
    fix: str = Message("Wait until it has finished, or stop it, and try again."),
    is_temporary: bool = False,
    patience: float = PATIENCE_SECONDS,
    note: str = "",
) -> Iterator[None]:
    """Hold a lock during a `with` block.

    Child processes do not inherit the lock, so a worker that outlives this process does not keep it. The
    lock is released however this process ends.

    Args:
        path: the lock file, created if necessary; it contains the holder's process id.
        doing: what the holder is doing, as a phrase for the error message: `is using this run`.
        where: what is locked, for the error message; by default the folder of the lock file.
        fix: advice to the user if the lock is refused.
        is_temporary: whether to remove the file afterwards.
        patience: seconds to wait for another holder.
        note: one line that other processes can read while the lock is held (`holder_note`).

    Raises:
        RunError: another process or this one holds the lock, and the message has its process id; or the run
            has just been removed.
        OSError: the folder is not writable, or the file is a symbolic link.
    """
    where = where or path.parent
    deadline = time.monotonic() + patience
    while not _claim(path):
        if time.monotonic() > deadline:
            pid = os.getpid()
            raise RunError(
                Message("this process itself {doing} (pid {pid})", doing=doing, pid=pid),
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
                    Message("the run has just been removed"),
                    where=str(path.parent),
                    fix=Message("Try again."),
                )
            _write_holder(path, note)
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
    if not path.parent.is_dir():  # filelock would create the folder, even if its name is mistyped
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    lock = _lock(path)
    try:
        lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=PATIENCE_SECONDS / 10)
    except filelock.Timeout:
        pid = _lines(path)[0]
        raise RunError(
            Message("{who} (pid {pid})", who=who, pid=pid or Message("unknown")), where=str(where), fix=fix
        ) from None
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path) -> filelock.BaseFileLock:
    return filelock.FileLock(guard_file(path) if LOCKS_A_GUARD else path, mode=0o600, thread_local=False)


def guard_file(path: Path) -> Path:
    """Return the path of the file that is locked on Windows in place of the lock file."""
    return path.with_name(f"{path.name}.guard")


@contextmanager
def _found(path: Path) -> Iterator[tuple[int, int] | None]:
    """Yield a file's device and inode, None if it is missing; until the block ends, no new file gets them."""
    descriptor = None
    if not LOCKS_A_GUARD:  # on Windows, an open file cannot be removed
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


def _write_holder(path: Path, note: str) -> None:
    """Write the holder's pid and its note; never through a symbolic link, because the file is truncated."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "w") as file:
        file.write("".join(f"{line}\n" for line in (os.getpid(), note) if line))


def _remove(path: Path) -> None:
    """Remove a lock file while this process holds its lock, so that the file cannot be another process's.

    A process that is waiting for the removed file starts over (filelock), whether or not there is a new one.
    """
    path.unlink(missing_ok=True)
    if LOCKS_A_GUARD:
        with contextlib.suppress(OSError):  # Windows does not remove open files
            guard_file(path).unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, doing: str) -> Iterator[None]:
    """Hold the lock of a file during a `with` block that reads the file's sources and then replaces it.

    Otherwise, two processes would share one staged file, and the older content could be written last.

    Args:
        path: the file.
        doing: what the holder is doing, as a phrase for the error message: `is using this run`.

    Raises:
        RunError: another process still holds it after a few seconds; the message has its process id.
        OSError: its folder is not writable.
    """
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, doing=doing, where=path, is_temporary=True, patience=WRITING_SECONDS):
        yield


def is_held(path: Path) -> bool:
    """Return whether any process, including this one, holds the lock of a lock file.

    To find out, the lock is acquired for a moment, so another process may have to wait. If it cannot be
    acquired, because the folder is read-only or its file system has no locks, the lock counts as free.
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


def holder(path: Path) -> int | None:
    """Return the process id of the holder of a lock file; None if it is not held or has no process id."""
    if not is_held(path):
        return None
    text = _lines(path)[0]
    return int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 12 else None


def holder_note(path: Path) -> str:
    """Return the note of the process that holds a lock file; empty if there is no note or no such process.

    A holder writes the note just after taking the lock; until then, the previous holder's note is returned.
    """
    return _lines(path)[1] if is_held(path) else ""


def _lines(path: Path) -> tuple[str, str]:
    """Return the process id and the note in a lock file; each is empty if the file has none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        text = ""
    first, second, *_ = [*(line.strip() for line in text.splitlines()), "", ""]
    return first, second


def _key(path: Path) -> tuple[int, str]:
    return os.getpid(), str(path.parent.resolve() / path.name)


def _claim(path: Path) -> bool:
    """Record that this process is about to lock a path; return False if it already holds that lock."""
    with _mutex:
        if _key(path) in _held:
            return False
        _held.add(_key(path))
        return True

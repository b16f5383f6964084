"""One process at a time in a folder, or at a file, whoever dies.

POSIX record locks where there are any, `filelock` elsewhere (Windows). Not filelock everywhere: it takes
flock(2), which belongs to the open file, and so a forked worker that outlives a killed process keeps the
run locked (a test holds that it does not).
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loraloom.errors import RunError

fcntl: Any
filelock: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    with warnings.catch_warnings(action="ignore"):  # if it finds neither system's locks, it says so
        import filelock

# A process that only asks whose the folder is holds the lock for a moment, and a holder writes its pid
# only after it has the lock.
PATIENCE_SECONDS = 0.2
# A report or a card is written in about a second: whoever comes second waits, and writes what is newer.
WRITING_SECONDS = 10.0

# What this process holds, by process id and path. POSIX locks say nothing between threads of one process,
# and closing any descriptor of the file drops them: a path that stands here is not opened a second time.
_held: set[tuple[int, str]] = set()
_mutex = threading.Lock()


@contextmanager
def locked(
    path: Path,
    *,
    doing: str = "works on this run",
    where: Path | None = None,
    fix: str = "Wait for it, or stop it, and try again.",
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
    """
    where = where or path.parent
    deadline = time.monotonic() + patience
    while not _claim(path):
        if time.monotonic() > deadline:
            pid = os.getpid()
            raise RunError(f"this process {doing} already (pid {pid})", where=str(where), fix=fix)
        time.sleep(PATIENCE_SECONDS / 10)
    try:
        hold = _guarded if fcntl is None else _record_locked
        with hold(path, deadline, is_temporary, doing, where, fix):
            yield
    finally:
        _held.discard(_key(path))


@contextmanager
def _record_locked(
    path: Path, deadline: float, is_temporary: bool, doing: str, where: Path, fix: str
) -> Iterator[None]:
    descriptor = _taken(path, deadline, is_temporary, doing, where, fix)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        if is_temporary:
            path.unlink(missing_ok=True)  # while it is held: another's file of this name is never removed
        os.close(descriptor)


@contextmanager
def _guarded(
    path: Path, deadline: float, is_temporary: bool, doing: str, where: Path, fix: str
) -> Iterator[None]:
    """Hold by filelock a file beside the lock file: what Windows has locked, nobody else can read."""
    if path.is_symlink():
        raise OSError(errno.ELOOP, "symbolic links are not followed here", str(path))
    guard = _guard(path)
    try:
        guard.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=PATIENCE_SECONDS / 10)
    except filelock.Timeout:
        pid = path.read_text(errors="replace").strip() if path.is_file() else ""
        raise RunError(
            f"another process {doing} (pid {pid or 'unknown'})", where=str(where), fix=fix
        ) from None
    try:
        path.write_text(f"{os.getpid()}\n")
        yield
    finally:
        if is_temporary:
            path.unlink(missing_ok=True)
        guard.release()


def _guard(path: Path) -> Any:
    return filelock.FileLock(guard_file(path), thread_local=False)


def guard_file(path: Path) -> Path:
    """What is locked in place of a lock file where there are no POSIX locks."""
    return path.with_name(f"{path.name}.guard")


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
    """Whether some process, this one included, holds the lock of a lock file now."""
    with _mutex:
        if _key(path) in _held:
            return True
        if fcntl is None:
            return _is_guarded(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return not _try(descriptor, path, fcntl.LOCK_SH)
        except RunError:
            return False  # a file system without locks: nobody holds one
        finally:
            os.close(descriptor)


def _is_guarded(path: Path) -> bool:
    if not guard_file(path).exists():
        return False
    guard = _guard(path)
    try:
        guard.acquire(timeout=PATIENCE_SECONDS)
    except filelock.Timeout:
        return True
    guard.release()
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


def _taken(path: Path, deadline: float, is_temporary: bool, doing: str, where: Path, fix: str) -> int:
    """The descriptor of the lock file, locked.

    Raises:
        RunError: another process keeps it; the holder removed the folder, and with it the file; or this
            file system has no locks.
    """
    while True:
        # Never through a link that somebody laid there: the file is emptied.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            while not _try(descriptor, path, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    holder = os.read(descriptor, 32).decode(errors="replace").strip()
                    pid = holder or "unknown"
                    raise RunError(f"another process {doing} (pid {pid})", where=str(where), fix=fix)
                time.sleep(PATIENCE_SECONDS / 10)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            if not is_temporary:
                raise RunError("the run was removed a moment ago", where=str(path.parent), fix="Try again.")
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has ended, and removed it: now there is none, or a new one


def _try(descriptor: int, path: Path, kind: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise RunError(f"cannot be locked: {error.strerror}", where=str(path)) from None
    return True

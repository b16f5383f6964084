"""Retrying reads that fail temporarily, because a file is being replaced or a file system stalls."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

POLL_SECONDS = 0.05
# How long to try again after errors that may pass in a moment: `_may_pass`.
SECONDS_FOR_A_FILE = 2.0

_PASSING = {
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "EINTR", "EIO", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)
}

T = TypeVar("T")


def patiently(
    read: Callable[[], T],
    *,
    errors: tuple[type[Exception], ...],
    seconds: float,
    may_pass: Callable[[Exception], bool] = lambda _: True,
) -> T:
    """Call a function that reads something, retry as long as it fails, and return its result.

    Args:
        read: the function.
        errors: kinds of errors after which to try again; the error of the last attempt is raised.
        seconds: time to keep trying, from the first error on.
        may_pass: returns whether an error may be temporary, so that another attempt makes sense.
    """
    deadline = None
    while True:
        try:
            return read()
        except errors as error:
            now = time.monotonic()
            deadline = now + seconds if deadline is None else deadline
            if now >= deadline or not may_pass(error):
                raise
        time.sleep(POLL_SECONDS)


def despite_stalls(read: Callable[[], T]) -> T:
    """Call a function that reads something, retry while the file system stalls, and return its result.

    Raises:
        OSError: reading failed for a permanent reason, or for too long.
    """
    return patiently(read, errors=(OSError,), seconds=SECONDS_FOR_A_FILE, may_pass=_may_pass)


def read_bytes_patiently(path: Path) -> bytes:
    """Return the content of a file, which another process may be replacing.

    Raises:
        OSError: the file is missing, or still could not be read after several attempts.
    """
    return despite_stalls(path.read_bytes)


def exists_patiently(path: Path) -> bool:
    """Return whether a path exists; also False if this cannot be determined after several attempts."""
    try:
        return despite_stalls(path.exists)
    except OSError:
        return False


def _may_pass(error: Exception) -> bool:
    # On Windows, a file that is just being replaced is in use. Elsewhere, access that is denied stays denied.
    is_in_use = os.name == "nt" and isinstance(error, PermissionError)
    return is_in_use or (isinstance(error, OSError) and error.errno in _PASSING)

"""The folder of an export: written and verified under a hidden name, and renamed at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loraloom.errors import RunError
from loraloom.export.proof import stop_if_asked
from loraloom.run.atomic import fsync_folder
from loraloom.run.folder import LOCK_FILE
from loraloom.run.lock import locked
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest

MODEL, PROOF = "model", "proof"


def check_out(out: Path) -> None:
    """Refuse a folder that exists already, or whose parent does not exist.

    Raises:
        RunError: the folder exists, or its parent does not exist.
    """
    if out.exists() or out.is_symlink():
        raise RunError(
            Message("this path already exists"),
            where=str(out),
            fix=Message("Give a folder that does not exist yet."),
        )
    if not out.parent.is_dir():
        raise RunError(
            Message("the folder does not exist"), where=str(out.parent), fix=Message("Create it first.")
        )


@contextmanager
def staged_beside(out: Path) -> Iterator[Path]:
    """Create a temporary hidden folder next to `out`, private because it contains the rows of the proof.

    Raises:
        RunError: the folder cannot be created, or another process is using it.
    """
    staged = out.with_name(f".{out.name}.merging")
    try:
        staged.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise RunError(
            Message("the folder cannot be created: {strerror}", strerror=error.strerror), where=str(staged)
        ) from None
    with locked(staged / LOCK_FILE, doing=Message("is writing to this folder"), where=out):
        for part in (MODEL, PROOF):
            shutil.rmtree(staged / part, ignore_errors=True)  # left over from a killed process
            (staged / part).mkdir()
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def publish(model: Path, out: Path, stop: StopRequest) -> int:
    """Rename the verified folder to `out`, and return its size in bytes."""
    size = sync(model)
    stop_if_asked(stop)
    check_out(out)
    os.rename(model, out)
    fsync_folder(out.parent)
    return size


def sync(folder: Path) -> int:
    """Flush every file to disk; return their total size in bytes."""
    size = 0
    for path in folder.iterdir():
        if path.is_dir():
            size += sync(path)
            continue
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
        size += path.stat().st_size
    fsync_folder(folder)
    return size

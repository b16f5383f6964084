"""Atomic writing of files and folders: each is replaced as a whole, and is on disk when the call returns."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Flush a folder's list of file names to disk, which fsync(2) on a file does not do."""
    if os.name == "nt":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a new file and flush it to disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Replace a file atomically: readers find the old or the new content, even after a power cut."""
    staged = staged_path(path)
    write_bytes(staged, text.encode())
    os.replace(staged, path)
    fsync_folder(path.parent)


def staged_path(path: Path) -> Path:
    """Return the path at which a file is written before it is renamed."""
    return path.with_name(f".{path.name}.new")


def replace_folder(staged: Path, target: Path) -> None:
    """Replace a folder with a finished one, whose files must already be on disk.

    A crash between the two renames leaves no `target`, only the old and the new content under other names;
    the caller's next attempt writes `target` again.
    """
    fsync_folder(staged)
    old = target.with_name(f".{target.name}.old")
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(target, old)
    os.rename(staged, target)
    fsync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove_remnants(parent: Path) -> None:
    """Remove what an interrupted `replace_folder`, or an interrupted removal, left in this folder."""
    for remnant in [*parent.glob(".*.new"), *parent.glob(".*.old")]:
        shutil.rmtree(remnant, ignore_errors=True)

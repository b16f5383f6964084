"""Files and folders that survive a crash: replaced as a whole, and on the disk when a call returns."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut (fsync(2) on a file does not cover its name)."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a new file and push it to the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_text(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader, or a power cut, sees the old one or the new one."""
    staged = staged_path(path)
    write_bytes(staged, text.encode())
    os.replace(staged, path)
    fsync_folder(path.parent)


def staged_path(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.new")


def replace_folder(staged: Path, target: Path) -> None:
    """Put a finished folder in the place of another; every file in it must already be on the disk.

    A crash between the two renames leaves no `target`, but both contents: the caller's next
    attempt writes it anew.
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
    """Remove what a `replace_folder` or a removal in this folder left when it was killed."""
    for remnant in [*parent.glob(".*.new"), *parent.glob(".*.old")]:
        shutil.rmtree(remnant, ignore_errors=True)

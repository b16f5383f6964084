"""The adapters that a server may attach: those found by listing the folder that its owner allowed."""

from __future__ import annotations

import os
from pathlib import Path

from loraloom.serving.job import JobError
from loraloom.text.message import Message

CONFIG = "adapter_config.json"
MAX_DEPTH = 3
MAX_FOLDERS = 10_000


def available_folders(root: Path | None) -> dict[str, Path]:
    """Return the adapter folders below a root, keyed by their path relative to it; empty if the root is None.

    A request names a folder by its relative path. The name is only looked up in the result and never becomes
    part of a path, and symbolic links are not followed.
    """
    found: dict[str, Path] = {}
    if root is None:
        return found
    for num_seen, (place, folders, files) in enumerate(os.walk(root, followlinks=False)):
        relative = Path(place).relative_to(root)
        if len(relative.parts) >= MAX_DEPTH or num_seen > MAX_FOLDERS:
            folders.clear()
        folders.sort()
        if CONFIG in files and relative.parts:
            found[relative.as_posix()] = Path(place)
    return found


def allowed_folder(root: Path | None, name: str) -> Path:
    """Return the folder of an available adapter.

    Raises:
        JobError: there is no adapter of this name.
    """
    folder = available_folders(root).get(name)
    if folder is None:
        message = (
            Message("this server cannot attach adapters; start it with --adapters-from FOLDER")
            if root is None
            else Message("there is no such folder; GET /v1/adapters lists those that are available")
        )
        raise JobError(404, "folder_not_found", message, param="folder")
    return folder

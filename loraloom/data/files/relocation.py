"""The current locations of a run's data, by data name, if the data was moved after the run started.

    data.train: shop/rows.jsonl, --data /new        → /new/shop/rows.jsonl, or else /new/rows.jsonl
    data.train: /old/rows.jsonl, --data kept.jsonl  → kept.jsonl

Names stay as written. Whether the files are those that were split is verified by their sha256.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path

from loraloom.data.files.data_names import STARTER
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import file_sha256, shown_names
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.text.message import Message

OPTION = "--data"
KEYS = ("train", "eval", "test", "retain")


def find_moved(settings: DataSettings, given: Path, sha256: Mapping[str, str]) -> dict[str, Path]:
    """Find where the data of a run is now.

    Args:
        settings: the run's `data`.
        given: the folder that replaces the one where the data was, or one of the run's data files.
        sha256: sha256 of each file, by its name, as recorded in the run.

    Returns:
        Names in the recipe -> their current location; names that were not found are missing.

    Raises:
        DataError: `given` does not exist, or is a file that cannot be identified as one of the run's files.
    """
    entries = data_entries(settings)
    if given.is_dir():
        found = {entry: _below(given, entry, sha256) for entry in entries}
        return {entry: path for entry, path in found.items() if path is not None}
    if not given.is_file():
        raise DataError(
            Message("does not exist"),
            where=f"{OPTION} {given}",
            found=Message("nothing at {absolute}", absolute=given.absolute()),
            fix=Message(
                "Give the file or folder where the run's data ({shown_names}) is now.",
                shown_names=shown_names(entries),
            ),
        )
    files = [entry for entry in entries if entry in sha256]
    own = file_sha256(given)
    alike = [entry for entry in files if sha256[entry] == own]
    chosen = alike or (files if len(files) == 1 else [])  # if it has changed, its sha256 is refused later
    if not chosen:
        raise DataError(
            Message("is not one of the files that the run started with"),
            where=f"{OPTION} {given}",
            found=Message("sha256 {own}", own=own),
            allowed=shown_names([f"{name} ({sha256[name][:12]})" for name in files] or entries),
            fix=Message("Give the folder where the run's data is now."),
        )
    return dict.fromkeys(chosen, given.absolute())


def data_entries(settings: DataSettings) -> list[str]:
    """List the data names of a recipe that refer to files or folders on disk, each once."""
    values = [getattr(settings, key) for key in KEYS]
    names = [
        [value] if isinstance(value, str) else value for value in values if isinstance(value, str | list)
    ]
    flat = [name for own in names for name in own]
    return list(dict.fromkeys(n for n in flat if n != STARTER and not n.startswith(HUB_PREFIX)))


def _below(given: Path, entry: str, sha256: Mapping[str, str]) -> Path | None:
    """Find what a data name refers to below the folder `given`; None if nothing is found.

    The result is the longest trailing part of the name's path that exists there; or else `given` itself, if
    every file that the name stood for is directly in it.
    """
    path = Path(entry).expanduser()
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    has_magic = [glob.has_magic(part) for part in parts]
    last = has_magic.index(True) if True in has_magic else len(parts) - 1
    for start in range(last + 1):
        rest = Path(*parts[start:])
        candidate = given / rest
        if candidate.exists() or (True in has_magic and glob.glob(str(rest), root_dir=given, recursive=True)):  # noqa: PTH207
            return candidate.absolute()
    inside = [
        name[len(entry.rstrip("/")) + 1 :] for name in sha256 if name.startswith(f"{entry.rstrip('/')}/")
    ]
    return given.absolute() if inside and all((given / name).is_file() for name in inside) else None

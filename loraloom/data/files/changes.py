"""Verification that the files listed in split.json still exist and are unchanged."""

from __future__ import annotations

from collections.abc import Mapping

from loraloom.data.files.location import DataLocation
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import check_file, file_sha256, shown_names
from loraloom.data.splitting.part_sizes import Part
from loraloom.errors import DataError, Problem
from loraloom.recipe.relative_paths import Locations
from loraloom.text.message import Message


def check_unchanged(
    saved: Mapping[str, str], located: Mapping[Part, DataLocation], locations: Locations, shown_as: str
) -> set[str]:
    """Refuse files other than those that were split, before any of them is read as data.

    Args:
        saved: file names in split.json -> sha256 of each.
        located: the files that the recipe names now.
        locations: where the files that the recipe names are now; for moved data, the names in split.json do
            not show this.
        shown_as: name of split.json in messages.

    Returns:
        Names of files that were added to a folder or pattern since the split.

    Raises:
        DataError: a file is missing, has changed, or was not split.
    """
    files = {file.name: file for own in located.values() for file in own.files}
    gone = [name for name in saved if name not in files]
    new = {name for name in files if name not in saved}
    if not locations.data and any(file.found_by for file in files.values()):
        for name in gone:
            check_file(locations.path_of(name), name)
    named = sorted(name for name in new if not files[name].found_by)
    if gone or named:
        raise DataError(
            Message("is a split of files other than the recipe's"),
            where=shown_as,
            found=shown_names(gone) if gone else shown_names(list(saved)),
            allowed=Message(
                "the recipe's files: {shown_names}", shown_names=shown_names(named or list(files))
            ),
        )
    on_disk = {name: files[name].path for name in saved if not name.startswith(HUB_PREFIX)}
    for name, path in on_disk.items():
        check_file(path, name)
    check_hashes(saved, {name: file_sha256(path) for name, path in on_disk.items()})
    return new


def check_hashes(saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse files whose sha256 differs from that of the files that were split.

    Raises:
        DataError: lists every file that has changed.
    """
    changed = [
        Problem(
            Message(
                "has changed since it was split: its sha256 was {saved} and is now {sha256}",
                saved=saved[name],
                sha256=sha256,
            ),
            where=name,
            fix=Message("Restore the old file, or start a new run."),
        )
        for name, sha256 in now.items()
        if sha256 != saved[name]
    ]
    if changed:
        raise DataError(changed)

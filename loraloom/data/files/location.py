"""Resolution of a recipe's data names to the files that contain the rows, in a reproducible order.

rows.jsonl, [a.jsonl, b.csv]      as given, in the order of the list
data/, data/*.jsonl               data files found there, sorted by name; a note lists what was skipped
saved/                            .arrow files that `save_to_disk` wrote, in the order of the dataset's rows
hub:owner/name                    the dataset itself, which is one "file" here
starter                           the file of the starter for this part of the data
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loraloom.data.files.data_file import DataFile, DataKey, where_named
from loraloom.data.files.data_names import STARTER, below
from loraloom.data.files.file_conflicts import files_named_twice, files_of_several_parts
from loraloom.data.files.saved_datasets import (
    SPLITS_OF,
    is_cache,
    is_saved_dataset,
    is_saved_dict,
    saved_shards,
    saved_splits,
)
from loraloom.data.formats.compression import data_suffix
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import PATHS_ARE_RELATIVE, shown_names
from loraloom.data.rows import FORMATS, is_readable
from loraloom.errors import DataError, Problem
from loraloom.recipe.relative_paths import Locations
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted

StarterFile = Literal["train", "eval", "test", "probe", "prompts"]

_STARTER_FILES: dict[DataKey, StarterFile] = {
    "train": "train",
    "eval": "eval",
    "test": "test",
    "retain": "probe",
    "prompts": "prompts",
}


@dataclass(slots=True)
class DataLocation:
    """The files of one part of the data.

    Args:
        files: the files, in reading order.
        notes: notes for the user on which files were used or skipped.
    """

    files: list[DataFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def locate(
    key: DataKey,
    value: str | Sequence[str],
    locations: Locations,
    *,
    split: str = "train",
    is_checked: bool = True,
) -> DataLocation:
    """Locate the files that a recipe names under `data.train`, `data.eval`, `data.test` or `data.retain`.

    Args:
        key: `train`, `eval`, `test`, `retain` or `prompts`; decides which part of `starter` or of a saved
            DatasetDict is meant.
        value: a file, folder, pattern, hub dataset or `starter`; or a list of these.
        locations: the paths of the files and folders that the recipe names.
        split: the split of a saved DatasetDict to use for `data.train` and `data.retain`.
        is_checked: whether to refuse files that do not belong together; not needed for an existing split.

    Raises:
        DataError: lists every problem: a folder or pattern without a data file or with files of several
            parts, or a file that is named twice.
    """
    located = DataLocation()
    problems: list[Problem] = []
    for entry in [value] if isinstance(value, str) else value:
        try:
            own = _locate(key, entry, locations.data_path(entry), split)
        except DataError as error:
            problems += error.problems
            continue
        located.files += own.files
        located.notes += own.notes
    if is_checked:
        problems += files_named_twice(located.files, key)
        problems += [] if key == "prompts" else files_of_several_parts(located.files, key)
    if problems:
        raise DataError(problems)
    return located


def _locate(key: DataKey, entry: str, path: Path, split: str) -> DataLocation:
    if entry == STARTER:
        from loraloom.starter import data_file

        own = _STARTER_FILES[key]
        return DataLocation([DataFile(f"{STARTER}:{own}.json", data_file(own))])
    if entry.startswith(HUB_PREFIX):
        return DataLocation([DataFile(entry, Path(entry))])
    if _is_folder(path):
        return _in_folder(key, entry, path, split)
    if glob.has_magic(entry) and not os.path.lexists(path):
        return _of_pattern(key, entry, path)
    return DataLocation([DataFile(entry, path)])


def _in_folder(key: DataKey, entry: str, folder: Path, split: str) -> DataLocation:
    if is_saved_dict(folder):
        return _split_of_dict(key, entry, folder, split)
    if is_saved_dataset(folder):
        names = saved_shards(folder, entry)
        return DataLocation([DataFile(below(entry, name), folder / name, found_by=entry) for name in names])
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError as error:
        raise DataError(Message("cannot be read: {strerror}", strerror=error.strerror), where=entry) from None
    hidden = [name for name in names if name.startswith(".")]
    visible = [name for name in names if not name.startswith(".")]
    located = _sorted_out(key, entry, entry, folder, visible, hidden, takes_folders=False)
    if located.files:
        return located
    inside = [name for name in visible if _is_folder(folder / name)]
    raise DataError(
        Message("contains no data file"),
        where=where_named(key),
        found=Message("{entry}, which is {resolve}", entry=quoted(entry), resolve=folder.resolve()),
        allowed=", ".join(FORMATS),
        fix=Message(
            "Subfolders are not searched; use {shown_below} instead.",
            shown_below=joined(" or ", _shown_below(entry, inside)),
        )
        if inside
        else "",
    )


def _split_of_dict(key: DataKey, entry: str, folder: Path, split: str) -> DataLocation:
    splits = saved_splits(folder, entry)
    wanted = SPLITS_OF.get(key, (split,))
    own = next((name for name in wanted if name in splits), None)
    if own is None:
        raise DataError(
            Message("the saved DatasetDict has no split {map}", map=joined(" or ", map(quoted, wanted)))
            if wanted
            else Message("a saved DatasetDict contains several splits"),
            where=where_named(key),
            found=Message("{entry} with {shown_names}", entry=quoted(entry), shown_names=shown_names(splits)),
            fix=Message(
                "Use the folder of one split: {shown_below}.",
                shown_below=joined(" or ", _shown_below(entry, splits)),
            ),
        )
    inside = _in_folder(key, below(entry, own), folder / own, split)
    others = [name for name in splits if name != own]
    note = Message(
        "{entry}: {where} uses its split {own}", entry=entry, where=where_named(key), own=quoted(own)
    )
    if others:
        note = Message(
            "{note}; its other splits are {shown_names}", shown_names=shown_names(others), note=note
        )
    return DataLocation(inside.files, [note, *inside.notes])


def _of_pattern(key: DataKey, entry: str, path: Path) -> DataLocation:
    parts = Path(entry).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    prefix = str(Path(*parts[:first])) if first else ""
    root = path.parents[len(parts) - first - 1]
    rest = str(Path(*parts[first:]))

    def matches(include_hidden: bool) -> set[str]:
        # Path.glob has neither `include_hidden` nor a `**` that matches files.
        found = glob.glob(rest, root_dir=root, recursive=True, include_hidden=include_hidden)  # noqa: PTH207
        return {Path(name).as_posix() for name in found}

    names = matches(include_hidden=False)
    if "**" in rest:  # the pattern descends into the folders it matches
        names = {name for name in names if not _is_folder(root / name)}
    hidden = sorted(matches(include_hidden=True) - names) if "**" not in rest else []
    located = _sorted_out(key, entry, prefix, root, sorted(names), hidden, takes_folders=True)
    if located.files:
        return located
    raise DataError(
        Message("matches no data file") if names else Message("matches no file"),
        where=where_named(key),
        found=quoted(entry),
        allowed=", ".join(FORMATS) if names else "",
        fix=_what_was_searched(root),
    )


def _sorted_out(
    key: DataKey,
    entry: str,
    prefix: str,
    root: Path,
    names: Sequence[str],
    hidden: Sequence[str],
    *,
    takes_folders: bool,
) -> DataLocation:
    """Separate data files from everything else, and note the rest by kind.

    Args:
        key, entry: for messages.
        prefix: the part of the path in front of a name, as written by the user.
        root: folder that the names are in.
        names: files and folders there, sorted.
        hidden: names skipped because they are hidden.
        takes_folders: whether to read folders written by `save_to_disk`.
    """
    files: list[DataFile] = []
    left_out: dict[str, list[str]] = {"hidden": list(hidden), "subfolders": [], "not data": [], "caches": []}
    for name in names:
        path = root / name
        if takes_folders and _is_folder(path) and is_saved_dataset(path):
            files += _in_folder(key, below(prefix, name), path, "").files
        elif _is_folder(path):
            left_out["subfolders"].append(name)
        elif not (is_readable(path) or (key == "prompts" and data_suffix(path) == ".txt")):
            left_out["not data"].append(name)
        elif is_cache(path):
            left_out["caches"].append(name)
        else:
            files.append(DataFile(below(prefix, name), path, found_by=entry))
    rest = [
        Message("{what}: {shown_names}", what=what, shown_names=shown_names(own))
        for what, own in left_out.items()
        if own
    ]
    note = (
        Message("{entry}: {num_files} data files", entry=entry, num_files=len(files))
        if len(files) != 1
        else Message("{entry}: {num_files} data file", entry=entry, num_files=len(files))
    )
    return DataLocation(
        files,
        [Message("{note}; skipped: {rest}", note=note, rest=joined("; ", rest)) if rest else note]
        if files
        else [],
    )


def _shown_below(entry: str, names: Sequence[str]) -> list[str]:
    return [quoted(below(entry, name)) for name in names[:4]]


def _what_was_searched(root: Path) -> str:
    if not _is_folder(root):
        return Message(
            "The folder {absolute} does not exist; {paths_are_relative}.",
            absolute=root.absolute(),
            paths_are_relative=PATHS_ARE_RELATIVE,
        )
    names = sorted(child.name for child in root.iterdir())
    holds = (
        Message("contains {shown_names}", shown_names=shown_names(names)) if names else Message("is empty")
    )
    return Message("The folder searched was {resolve}, which {holds}.", resolve=root.resolve(), holds=holds)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False

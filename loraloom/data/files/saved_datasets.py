"""Folders written by `save_to_disk`: files that contain the rows, and their order.

    Dataset:      state.json, which lists data-00000-of-00002.arrow, …; dataset_info.json
    DatasetDict:  dataset_dict.json, which lists the splits; one folder per split

Other .arrow files in such a folder are caches of `map` and `filter` with rows of another dataset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loraloom.errors import DataError
from loraloom.text.message import Message

STATE_FILE = "state.json"
SPLITS_FILE = "dataset_dict.json"
# Names of the splits that a part may use, the usual name first.
SPLITS_OF = {"eval": ("validation", "valid", "val", "dev", "eval"), "test": ("test",), "prompts": ()}


def is_saved_dataset(folder: Path) -> bool:
    """Return whether a folder is a saved Dataset."""
    return _is_there(folder / STATE_FILE) and _is_there(folder / "dataset_info.json")


def is_saved_dict(folder: Path) -> bool:
    """Return whether a folder is a saved DatasetDict."""
    return _is_there(folder / SPLITS_FILE)


def saved_shards(folder: Path, shown_as: str) -> list[str]:
    """List the names of a saved Dataset's files, in the order of its rows.

    Raises:
        DataError: its state.json is damaged, or selects rows by a separate index.
    """
    state = _read(folder / STATE_FILE, f"{shown_as}/{STATE_FILE}")
    shards = state.get("_data_files")
    if isinstance(shards, list) and all(_names_a_file(shard) for shard in shards):
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise DataError(
                Message(
                    "was saved with an index that selects some of its rows, as old versions of the "
                    "`datasets` library did"
                ),
                where=shown_as,
                fix=Message(
                    "Load it with the `datasets` library, call `flatten_indices()`, and then call "
                    "`save_to_disk` again."
                ),
            )
        return [shard["filename"] for shard in shards]
    raise DataError(
        Message("lists no files"), where=f"{shown_as}/{STATE_FILE}", fix=Message("Call `save_to_disk` again.")
    )


def is_cache(path: Path) -> bool:
    """Return whether an .arrow file is in the folder of a saved Dataset without being part of the Dataset."""
    folder = path.parent
    return (
        path.suffix == ".arrow"
        and is_saved_dataset(folder)
        and path.name not in saved_shards(folder, str(folder))
    )


def saved_splits(folder: Path, shown_as: str) -> list[str]:
    """List the splits of a saved DatasetDict.

    Raises:
        DataError: its dataset_dict.json is damaged.
    """
    splits = _read(folder / SPLITS_FILE, f"{shown_as}/{SPLITS_FILE}").get("splits")
    if isinstance(splits, list) and splits and all(map(_is_file_name, splits)):
        return splits
    raise DataError(
        Message("lists no splits"),
        where=f"{shown_as}/{SPLITS_FILE}",
        fix=Message("Call `save_to_disk` again."),
    )


def _names_a_file(shard: Any) -> bool:
    return isinstance(shard, dict) and _is_file_name(shard.get("filename"))


def _is_file_name(name: Any) -> bool:
    """Return whether this is a name without a path; a dataset must not refer to files outside its folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read(path: Path, shown_as: str) -> Mapping[str, object]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DataError(Message("is damaged"), where=shown_as, fix=Message("Call `save_to_disk` again."))
    return document


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False

"""Folders that datasets' `save_to_disk` made: which files of theirs hold the rows, and in which order.

    Dataset:      state.json, which lists data-00000-of-00002.arrow, …; dataset_info.json
    DatasetDict:  dataset_dict.json, which lists the splits; a folder for each

Other .arrow files in such a folder are caches of `map` and `filter`, and hold rows of another dataset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from loraloom.errors import DataError

STATE_FILE = "state.json"
SPLITS_FILE = "dataset_dict.json"
# What the splits are called that a part takes, the usual name first.
SPLITS_OF = {"eval": ("validation", "valid", "val", "dev", "eval"), "test": ("test",), "prompts": ()}


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder is a Dataset that was saved."""
    return _is_there(folder / STATE_FILE) and _is_there(folder / "dataset_info.json")


def is_saved_dict(folder: Path) -> bool:
    """Whether a folder is a DatasetDict that was saved."""
    return _is_there(folder / SPLITS_FILE)


def saved_shards(folder: Path, shown_as: str) -> list[str]:
    """The names of a saved Dataset's files, in the order of its rows.

    Raises:
        DataError: its state.json is damaged, or chooses rows by an index of its own.
    """
    state = _read(folder / STATE_FILE, f"{shown_as}/{STATE_FILE}")
    shards = state.get("_data_files")
    if isinstance(shards, list) and all(_names_a_file(shard) for shard in shards):
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise DataError(
                "was saved with an index that chooses among its rows, as old versions of datasets did",
                where=shown_as,
                fix="Load it with datasets and call `flatten_indices()`, then `save_to_disk` again.",
            )
        return [shard["filename"] for shard in shards]
    raise DataError("lists no files", where=f"{shown_as}/{STATE_FILE}", fix="Call `save_to_disk` again.")


def is_cache(path: Path) -> bool:
    """Whether a file lies beside a saved Dataset's own files and is none of them."""
    folder = path.parent
    return (
        path.suffix == ".arrow"
        and is_saved_dataset(folder)
        and path.name not in saved_shards(folder, str(folder))
    )


def saved_splits(folder: Path, shown_as: str) -> list[str]:
    """The splits of a saved DatasetDict.

    Raises:
        DataError: its dataset_dict.json is damaged.
    """
    splits = _read(folder / SPLITS_FILE, f"{shown_as}/{SPLITS_FILE}").get("splits")
    if isinstance(splits, list) and splits and all(map(_is_file_name, splits)):
        return splits
    raise DataError("lists no splits", where=f"{shown_as}/{SPLITS_FILE}", fix="Call `save_to_disk` again.")


def _names_a_file(shard: Any) -> bool:
    return isinstance(shard, dict) and _is_file_name(shard.get("filename"))


def _is_file_name(name: Any) -> bool:
    """A plain name: a folder's own list names nothing outside of the folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read(path: Path, shown_as: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DataError("is damaged", where=shown_as, fix="Call `save_to_disk` again.")
    return document


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False

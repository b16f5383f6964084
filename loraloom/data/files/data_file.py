"""A data file of a recipe: its name in messages, and the recipe key under which it is listed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loraloom.text.message import Message

DataKey = Literal["train", "eval", "test", "retain", "prompts"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file that contains rows.

    Args:
        name: name in messages, rows and split.json: as written by the user; for a file that a folder or
            pattern matched, the folder as written and the rest of the path.
        path: its location; ignored for a hub dataset.
        found_by: the folder or pattern that matched it, to which files may be added later; "" for a file
            that is named explicitly.
    """

    name: str
    path: Path
    found_by: str = ""


def where_named(key: DataKey) -> str:
    """Return, for a message, the recipe key under which a file is listed, or a phrase for rows to answer."""
    return Message("rows to answer") if key == "prompts" else Message("data.{key}", key=key)

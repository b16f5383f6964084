"""The data names of a recipe: their form in messages, the run name made from them, and whether they exist."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from loraloom.data.formats.compression import data_stem
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.recipe.relative_paths import Locations
from loraloom.text.message import Message

STARTER = "starter"


def below(prefix: str, name: str) -> str:
    """Join a folder, or the beginning of a pattern, and a file's name: `data/a.jsonl`."""
    return f"{prefix.rstrip('/')}/{name}" if prefix.strip("/") else f"{prefix}{name}"


def is_on_disk(name: str, locations: Locations) -> bool:
    """Return whether a data name of a recipe is an existing file or folder, or a pattern that matches one."""
    if name == STARTER or name.startswith(HUB_PREFIX):
        return False
    path = locations.data_path(name)
    return path.exists() or (glob.has_magic(name) and bool(glob.glob(str(path), recursive=True)))  # noqa: PTH207


def name_of(value: str | Sequence[str]) -> str:
    """Return a short name for the data of a recipe: `rows` for `rows.json.gz`, `shop` for `shop/*.csv`."""
    first = value if isinstance(value, str) else value[0]
    first = first.rpartition(":")[2]
    *folders, last = Path(first).parts or ("",)
    if glob.has_magic(last):
        begins = re.split(r"[*?\[]", last)[0].strip("-_.")
        plain = [part for part in folders if not glob.has_magic(part)]
        return begins or (plain[-1] if plain else "data").strip("/\\~.") or "data"
    return data_stem(last).strip(".") or "data"


def shown_data(value: str | Sequence[str]) -> str:
    """Format the data names of a recipe for messages: `a.jsonl`, or `a.jsonl and 3 more`."""
    first, *others = [value] if isinstance(value, str) else value
    first = Message("{starter}:train.json", starter=STARTER) if first == STARTER else first
    return Message("{first} and {num_others} more", first=first, num_others=len(others)) if others else first

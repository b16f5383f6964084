"""Which part of a dataset a file holds, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from loraloom.data.formats.opening import data_stem
from loraloom.data.formats.row import shown_name
from loraloom.errors import DataError

# What files are called that hold one part of a dataset each, as the hub's own rules have it.
_PART_WORDS = {
    word: part
    for part, words in {
        "train": "train training",
        "eval": "validation valid val dev eval evaluation",
        "test": "test testing",
    }.items()
    for word in words.split()
}


def check_one_part(names: Sequence[str], prefix: str, entry: str, where: str) -> None:
    """Refuse train.jsonl and test.jsonl as one part: it would be trained on what it is judged by.

    Args:
        names: the files that a folder or pattern gave.
        prefix: what stands in front of each, and says nothing of its part.
        entry, where: the folder or pattern, and the setting that names it, for messages.

    Raises:
        DataError: by their names, they are of several parts.
    """
    of_part: dict[str, list[str]] = {}
    for name in names:
        below = Path(name.removeprefix(prefix))
        words = re.split(r"[\W\d_]+", str(below.with_name(data_stem(below))).lower())
        part = next((_PART_WORDS[word] for word in words if word in _PART_WORDS), None)
        if part is not None:
            of_part.setdefault(part, []).append(name)
    if len(of_part) > 1:
        parts = sorted(of_part.items(), key=lambda each: list(_PART_WORDS.values()).index(each[0]))
        lines = [f"{part}: {own[0]}" if len(own) == 1 else f"{part}: {own[:3]}" for part, own in parts]
        raise DataError(
            "its files are named as those of several parts",
            where=where,
            found=shown_name(entry),
            fix=f"Name each part's own, such as `{'`, `'.join(lines)}`; to take all for one part, list them.",
        )

"""Recognising, from a file's name, which part of a dataset the file contains."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from loraloom.data.formats.compression import data_stem
from loraloom.errors import Problem
from loraloom.text.message import Message
from loraloom.text.visible import quoted

# Names of files that contain one part of a dataset each, as in the hub's own rules.
_PART_WORDS = {
    word: part
    for part, words in {
        "train": "train training",
        "eval": "validation valid val dev eval evaluation",
        "test": "test testing",
    }.items()
    for word in words.split()
}


def several_parts(names: Sequence[str], entry: str, where: str) -> Problem | None:
    """Return a problem if files of several parts, such as train.jsonl and test.jsonl, are used as one part.

    A model trained on all of them would see the rows that it is evaluated on. Return None if the names do not
    indicate several parts.

    Args:
        names: the files that a folder or pattern matched.
        entry: that folder or pattern; its own name does not indicate a file's part.
        where: the setting that contains it.
    """
    own_depth = sum(not glob.has_magic(part) for part in Path(entry).parts)
    of_part: dict[str, list[str]] = {}
    for name in names:
        *folders, file = Path(name).parts[own_depth:]
        words = re.split(r"[\W\d_]+", " ".join([*folders, data_stem(file)]).lower())
        part = next((_PART_WORDS[word] for word in words if word in _PART_WORDS), None)
        if part is not None:
            of_part.setdefault(part, []).append(name)
    if len(of_part) < 2:
        return None
    parts = sorted(of_part.items(), key=lambda each: list(_PART_WORDS.values()).index(each[0]))
    lines = [f"{part}: {own[0]}" if len(own) == 1 else f"{part}: {own[:3]}" for part, own in parts]
    return Problem(
        Message("the names of its files suggest several parts of a dataset"),
        where=where,
        found=quoted(entry),
        fix=Message(
            "Give each part its own files, such as `{lines}`; to use all of them for one part, list them.",
            lines="`, `".join(lines),
        ),
    )

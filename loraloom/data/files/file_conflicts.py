"""Data files that do not belong together: files of several parts, or files named twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loraloom.data.files.data_file import DataFile, DataKey, where_named
from loraloom.data.files.part_names import several_parts
from loraloom.errors import Problem
from loraloom.text.message import Message
from loraloom.text.visible import quoted


def files_of_several_parts(files: Sequence[DataFile], key: DataKey) -> list[Problem]:
    """Return a problem for each folder or pattern whose file names suggest several parts of a dataset."""
    found: dict[str, list[str]] = {}
    for file in files:
        if file.found_by:
            found.setdefault(file.found_by, []).append(file.name)
    problems = (several_parts(names, entry, where_named(key)) for entry, names in found.items())
    return [problem for problem in problems if problem is not None]


def files_named_twice(files: Sequence[DataFile], key: DataKey) -> list[Problem]:
    """Return a problem for each file that is named a second time."""
    first: dict[Path, DataFile] = {}
    problems = []
    for file in files:
        known = first.setdefault(file.path.resolve(), file)
        if known is not file:
            also = (
                ""
                if known.name == file.name
                else Message(", also under the name {name}", name=quoted(known.name))
            )
            problems.append(
                Problem(
                    Message("names the same file twice{also}", also=also),
                    where=where_named(key),
                    found=file.name,
                    fix=Message("Remove one of the two; otherwise its rows would count twice."),
                )
            )
    return problems

"""Reading the files of one part of the data: each in its own layout, but with groups that span all files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.data.example import Example
from loraloom.data.examples import read_examples
from loraloom.data.files.data_file import DataFile
from loraloom.data.files.location import DataLocation, locate
from loraloom.data.formats.row import DroppedRow
from loraloom.data.repeated_notes import merge_notes
from loraloom.data.splitting.grouped_examples import in_groups
from loraloom.data.splitting.groups import SourceGroups
from loraloom.data.splitting.part_sizes import PARTS, Part
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message


@dataclass(frozen=True, slots=True)
class PartContents:
    """The rows of one part of the data.

    Args:
        examples: the examples, in the order of the files and of their rows.
        sha256: sha256 of each file, by its name.
        dropped: invalid rows that were dropped, by their file's name; only files that have any.
        notes: notes for the user on how the files were read.
    """

    examples: Sequence[Example]
    sha256: dict[str, str]
    dropped: dict[str, list[DroppedRow]]
    notes: list[str]


def read_part(files: Sequence[DataFile], settings: DataSettings) -> PartContents:
    """Read all files of a part.

    The layout of each file is recognised separately, so files of different layouts may be combined.

    Args:
        files: the files, at least one.
        settings: as in `read_examples`.

    Raises:
        DataError: lists every problem of every file.
    """
    groups = SourceGroups()
    examples: list[Example] = []
    part = PartContents(examples, {}, {}, [])
    notes: list[tuple[str, list[str]]] = []
    problems: list[Problem] = []
    for file in files:
        try:
            read = read_examples(file.path, settings, shown_as=file.name, groups=groups)
        except DataError as error:
            problems += error.problems
            continue
        examples.extend(read.examples)
        part.sha256[file.name] = read.sha256
        if read.bad:
            part.dropped[file.name] = read.bad
        notes.append((file.name, read.notes))
    if problems:
        raise DataError(problems)
    examples[:] = in_groups(examples, groups)  # a later file may merge groups of an earlier one
    part.notes.extend(merge_notes(notes))
    return part


def locate_parts(settings: DataSettings, *, is_checked: bool = True) -> dict[Part, DataLocation]:
    """Locate the files of each part that has files of its own.

    Args:
        settings: as in `split_examples`.
        is_checked: as in `locate`.

    Raises:
        DataError: lists every problem, including parts that name the same file.
    """
    located: dict[Part, DataLocation] = {}
    problems: list[Problem] = []
    first: dict[Path, tuple[Part, DataFile]] = {}
    for part in PARTS:
        value = getattr(settings, part)
        if not isinstance(value, str | list):
            continue
        try:
            located[part] = locate(
                part, value, settings.locations, split=settings.hub_split, is_checked=is_checked
            )
        except DataError as error:
            problems += error.problems
            continue
        for file in located[part].files:
            same, other = first.setdefault(file.path.resolve(), (part, file))
            if is_checked and same != part:
                problems.append(_in_two_parts(part, same, file, other))
    if problems:
        raise DataError(problems)
    return located


def _in_two_parts(part: Part, same: Part, file: DataFile, other: DataFile) -> Problem:
    leaves_out = [key for key, found in ((same, other.found_by), (part, file.found_by)) if found]
    fix: str = Message("Set a share instead, such as `{part}: 0.1`, to take rows from data.train.", part=part)
    if leaves_out:
        fix = (
            Message(
                "Change data.{leaves_out} so that it excludes the file, or move the file. ",
                leaves_out=leaves_out[0],
            )
            + fix
        )
    return Problem(
        Message("names the same file as data.{same}", same=same),
        where=f"data.{part}",
        found=file.name,
        fix=fix,
    )


def read_parts(located: Mapping[Part, DataLocation], settings: DataSettings) -> dict[Part, PartContents]:
    """Read every part.

    Raises:
        DataError: lists every problem of every file.
    """
    read: dict[Part, PartContents] = {}
    problems: list[Problem] = []
    for part, own in located.items():
        try:
            read[part] = read_part(own.files, settings)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return read

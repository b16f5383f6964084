"""Rows to answer in several files: a folder or pattern is its data files and text files, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loraloom.data.files.location import locate
from loraloom.data.prompts.prompts import Prompt
from loraloom.data.rows import Findings
from loraloom.errors import DataError, Problem
from loraloom.recipe.relative_paths import Locations


def prompts_of_files(
    name: str, read: Callable[[Path, str, Findings], list[Prompt]], told: Callable[[str], None]
) -> list[Prompt]:
    """The prompts of every file that a name stands for.

    Args:
        name: a file, a folder or a pattern, as the user wrote it.
        read: a file, its name, and where its findings go, to its prompts.
        told: takes in what was left out of a folder or pattern, and how each file was read.

    Raises:
        DataError: with every problem of every file.
    """
    located = locate("prompts", name, Locations())
    for note in located.notes:
        told(note)
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for file in located.files:
        findings = Findings()
        try:
            prompts += read(file.path, file.name, findings)
        except DataError as error:
            problems += error.problems
        for note in findings.notes:
            told(note)
    if problems:
        raise DataError(problems)
    return prompts

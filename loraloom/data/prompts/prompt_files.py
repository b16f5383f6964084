"""Prompts of several files: the data files and text files of a folder or pattern, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loraloom.data.files.location import locate
from loraloom.data.prompts.prompts import Prompt
from loraloom.data.rows import Findings
from loraloom.errors import DataError, Problem
from loraloom.recipe.relative_paths import Locations


def prompts_of_files(
    name: str, read: Callable[[Path, str, Findings], list[Prompt]], report: Callable[[str], None]
) -> list[Prompt]:
    """Read the prompts of every file that a name refers to.

    Args:
        name: a file, a folder or a pattern, as written by the user.
        read: reads the prompts of a file, given its path, its name and the findings to add to.
        report: receives notes on what was skipped in a folder or pattern and how each file was read.

    Raises:
        DataError: lists every problem of every file.
    """
    located = locate("prompts", name, Locations())
    for note in located.notes:
        report(note)
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for file in located.files:
        findings = Findings()
        try:
            prompts += read(file.path, file.name, findings)
        except DataError as error:
            problems += error.problems
        for note in findings.notes:
            report(note)
    if problems:
        raise DataError(problems)
    return prompts

"""Errors for columns that no layout recognises, with the lines to write in the recipe."""

from __future__ import annotations

import json
import re

from loraloom.data.formats.delimited import has_header
from loraloom.data.formats.row import shown_names
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message

_PLAIN_YAML = re.compile(r"[^\W\d][\w /-]*")


_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


# A name like these is not the text of a row, so it can be shown even if the first line may be a row.
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*([ _.-][A-Za-z0-9]+){0,3}")


_LONGEST_NAME = 30


class NoLayoutError(DataError):
    """The columns of the question and the answer were not recognised.

    Args:
        problem: the reason, the columns found, and the recipe lines that assign them.
        example: the column names to show in these lines, of the question and of the answer.
    """

    def __init__(self, problem: Problem, example: tuple[str, str]) -> None:
        super().__init__([problem])
        self.problem = problem
        self.example = example


def no_layout_error(
    what: str, found: str, where: str, example: tuple[str, str], allowed: str = ""
) -> NoLayoutError:
    """Return a `NoLayoutError` whose fix is the recipe lines to write, with two example column names."""
    problem = Problem(what, where=where, found=found, allowed=allowed, fix=_lines_to_write(*example))
    return NoLayoutError(problem, example)


def shown_columns(found: list[str], where: str) -> str:
    """List the columns; for a table whose first line may be a row, not a header, give only their number."""
    are_names = all(len(name) <= _LONGEST_NAME and _COLUMN_NAME.fullmatch(name) for name in found)
    if has_header(where) and not are_names:
        count = (
            Message("1 column") if len(found) == 1 else Message("{num_found} columns", num_found=len(found))
        )
        return Message("{count} in its first line", count=count)
    return shown_names(found)


def _lines_to_write(instruction: str, response: str) -> str:
    return Message(
        "Assign the columns in the recipe, for example:\n"
        "  data:\n"
        "    columns:\n"
        "      instruction: {yaml}\n"
        "      response: {yaml_2}\n"
        "`input`, which follows the instruction, and `system` and `history`, which precede it, "
        "are optional.",
        yaml=_yaml(instruction),
        yaml_2=_yaml(response),
    )


def _yaml(name: str) -> str:
    """Format a column's name for YAML, in quotes unless YAML reads it back unchanged without them."""
    plain = _PLAIN_YAML.fullmatch(name) and name.lower() not in _YAML_WORDS and name == name.strip()
    return name if plain else json.dumps(name)

"""YAML syntax errors, with their location and a suggested fix."""

from __future__ import annotations

from collections.abc import Callable

import yaml

from loraloom.errors import RecipeError
from loraloom.text.message import Message


def syntax_error(error: yaml.MarkedYAMLError, place: Callable[[int], str]) -> RecipeError:
    """Convert a PyYAML error to a RecipeError with the place, the problem and, if known, a fix.

    Args:
        error: the error.
        place: function that converts a line number, from 1, to the place that messages show.
    """
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem: str = error.problem or Message("not readable")
    fix = ""
    if "'\\t'" in problem:
        problem, fix = Message("tabs cannot be used for indentation"), Message("Indent with spaces.")
    elif problem.startswith("mapping values are not allowed"):
        problem = Message("`: ` is used where no value can begin")
        fix = Message("Check the indentation of the line above; text that contains `: ` needs quotes.")
    elif error.context == "while scanning an alias":
        problem, fix = (
            Message("`*` begins the name of an alias"),
            Message("Text that begins with `*` needs quotes."),
        )
    elif error.context and error.context_mark and error.context_mark.line + 1 != line:
        problem = Message(
            "{problem}, {context} that begins on line {line}",
            context=error.context,
            line=error.context_mark.line + 1,
            problem=problem,
        )
    return RecipeError(
        Message("not readable as YAML, column {column}: {problem}", column=column, problem=problem),
        where=place(line),
        fix=fix,
    )


def line_and_column(text: str, position: int) -> tuple[int, int]:
    """Return the line and column of a position in a text, both counted from 1."""
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1

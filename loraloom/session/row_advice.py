"""Advice for errors in rows to answer, in place of the usual advice to change the recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.text.message import Message

OF_RUN = Message(
    "Rows are read as the run's recipe states: give this file the columns of the run's data, "
    "or write the prompts into a .txt file, one per line."
)
OF_ADAPTERS = Message(
    "Assign the columns with --set data.columns.instruction=COLUMN and --set "
    "data.columns.response=COLUMN, or set another key of `data`; or write the prompts into a "
    ".txt file, one per line."
)
_KEYS = "|".join(DataSettings.model_fields)  # `data.json` is a file
_CHANGES_RECIPE = re.compile(rf"\bin the recipe\b|`data:|^\s+data:$|\bdata\.(?:{_KEYS})\b", re.MULTILINE)


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Replace advice to change the recipe with other advice, in errors raised while rows to answer are read.

    Args:
        advice: what the user can do about columns, encodings and the like.

    Raises:
        DataError: the original error, with the advice.
    """
    try:
        yield
    except DataError as error:
        raise DataError(
            replace(problem, fix=advice) if _CHANGES_RECIPE.search(problem.fix) else problem
            for problem in error.problems
        ) from None

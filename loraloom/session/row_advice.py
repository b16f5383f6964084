"""Advice on rows to answer that cannot be read: a run's recipe is settled, so changing it is no fix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from loraloom.errors import DataError
from loraloom.recipe import DataSettings

OF_RUN = (
    "Rows are read by the run's own recipe: give this file the columns of the run's data, or write the "
    "prompts into a .txt file, one a line."
)
OF_ADAPTERS = (
    "Say which column is what with --set data.columns.instruction=COLUMN and --set "
    "data.columns.response=COLUMN, or another key of `data`; or write the prompts "
    "into a .txt file, one a line."
)
_KEYS = "|".join(DataSettings.model_fields)  # `data.json` is a file
_CHANGES_RECIPE = re.compile(rf"\bin the recipe\b|`data:|^\s+data:$|\bdata\.(?:{_KEYS})\b", re.MULTILINE)


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """While rows to answer are read, advice that works takes the place of advice to change a recipe.

    Args:
        advice: what can be done about columns, encodings and the like.

    Raises:
        DataError: as it came, with the advice.
    """
    try:
        yield
    except DataError as error:
        raise DataError(
            replace(problem, fix=advice) if _CHANGES_RECIPE.search(problem.fix) else problem
            for problem in error.problems
        ) from None

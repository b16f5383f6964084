"""Columns passed from the rows to their answers: an id, and the columns to keep."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from loraloom.data.formats.cells import WrittenNumber
from loraloom.data.formats.row import Row
from loraloom.data.layouts.no_layout import shown_columns
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message
from loraloom.text.visible import quoted

# Names of id columns; the first that a file has, in any letter case, is passed through.
ID_NAMES = (
    "id",
    "_id",
    "uid",
    "uuid",
    "guid",
    "idx",
    "index",
    "row_id",
    "example_id",
    "sample_id",
    "question_id",
    "qid",
    "doc_id",
)
# Column names of the answers; a kept column with such a name gets the suffix `IN_FILE`.
OWN_NAMES = ("file", "row", "source", "answer")
IN_FILE = "_in_file"


def id_column(rows: Sequence[Row], used: Collection[str]) -> str | None:
    """Return the column that identifies the rows; None if there is none.

    Args:
        rows: rows of one file.
        used: columns of questions or answers, which are not ids whatever their names are.
    """
    columns = [name for name in _columns(rows) if name not in used]
    for known in ID_NAMES:
        for name in columns:
            if name.casefold() == known:
                return name
    return None


def check_kept(keep: Sequence[str], rows: Sequence[Row], *, shown_as: str) -> None:
    """Check that every column to keep exists.

    Raises:
        DataError: lists every column that no row has.
    """
    columns = _columns(rows)
    found = shown_columns(columns, shown_as)
    problems = [
        Problem(
            Message("there is no column {name} in {shown_as}", name=quoted(name), shown_as=shown_as),
            where="--keep",
            allowed=found,
        )
        for name in keep
        if name not in columns
    ]
    if problems:
        raise DataError(problems)


def kept_values(row: Row, names: Sequence[str]) -> dict[str, object]:
    """Map the output names of some columns to a row's values, converted for JSON; missing values are None."""
    return {output_name(name): _plain(row.values.get(name)) for name in names}


def output_name(column: str) -> str:
    """Return the name that a kept column has in the output.

    >>> output_name("url"), output_name("answer")
    ('url', 'answer_in_file')
    """
    return column + IN_FILE if column in OWN_NAMES else column


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.values))


def _plain(value: Any) -> Any:
    """Convert a value for JSON: exactly if possible, otherwise to text; infinity and NaN become None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, WrittenNumber):
        value = float(value.written)  # so that the 32-bit 3.8 is not 3.799999952316284
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        number = float(value)
        return number if Decimal(repr(number)) == value else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)

"""Rows of a JSON list, read one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import Any

from loraloom.data.formats.json_text import JsonCursor
from loraloom.data.formats.row import Findings, Row, location
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message

ONE_LIST = Message(
    "Put the rows in one list, `[ {{…}}, {{…}} ]`, or one object on each line of a .jsonl file."
)
NAMELESS = Message("the rows are lists, which do not name their columns")
AS_OBJECT = Message('Write each row as an object, `{{"instruction": …, "response": …}}`.')
_JSON_TYPES = {
    dict: Message("an object"),
    list: Message("a list"),
    str: "text",
    bool: Message("true or false"),
    type(None): "null",
}


def type_name(value: Any) -> str:
    """Return the name of a JSON value's type, for messages."""
    return _JSON_TYPES.get(type(value), Message("a number"))


def rows_of_list(
    cursor: JsonCursor, shown_as: str, findings: Findings, columns: Collection[str]
) -> Iterator[Row]:
    """Read the rows of the list whose `[` was just read, up to and including its `]`.

    Args:
        cursor: at the list's first element.
        shown_as: the file's name in messages.
        findings: receives the problems of single rows.
        columns: the columns that the recipe names; if the first row is a list that contains all of them, it
            names the columns of the lists that follow.

    Raises:
        DataError: the list is truncated, or its rows are lists without column names.
    """
    if cursor.peek() == "]":
        cursor.skip()
        return
    header: list[str] | None = None
    for number in itertools.count(1):
        cursor.peek()
        line = cursor.line
        value = cursor.value(Message("row {number}", number=number))
        where = location(shown_as, line)
        if number == 1 and isinstance(value, list):
            header = _names(value, columns)
            if header is None:
                raise nameless(where)
            findings.notes.append(
                Message("{shown_as}: the first list was read as the names of the columns", shown_as=shown_as)
            )
        else:
            if header is not None and isinstance(value, list) and len(value) == len(header):
                value = dict(zip(header, value, strict=True))
            row = number - (header is not None)
            if is_sound(value, cursor.flaws, row, where, findings):
                yield Row(shown_as, row, line, value)
        mark = cursor.peek()
        if mark not in (",", "]"):
            raise unclosed(cursor, mark, Message("row {number}", number=number))
        cursor.skip()
        if mark == "]":
            return


def is_sound(value: Any, flaws: list[str], number: int, where: str, findings: Findings) -> bool:
    """Return whether a row is an object without flaws; if not, add its flaws to `findings`."""
    fix = ""
    if not isinstance(value, dict):
        flaws, fix = [Message("must be an object, but is {kind}", kind=type_name(value))], AS_OBJECT
    for flaw in flaws:
        findings.refuse(
            Problem(Message("row {number} {flaw}", number=number, flaw=flaw), where=where, fix=fix), number
        )
    return not flaws


def nameless(where: str) -> DataError:
    """Return the error for rows that are lists without column names."""
    named = Message("or put the column names in the first list and assign them in `data.columns`")
    return DataError(
        NAMELESS,
        where=where,
        fix=Message("{as_object}, {named}.", as_object=AS_OBJECT.removesuffix("."), named=named),
    )


def unclosed(cursor: JsonCursor, mark: str, what: str) -> DataError:
    """Return the error for a list with neither a comma nor a `]` after an element."""
    if mark:
        return cursor.refuse(Message("after {what}, a comma or `]` is missing", what=what))
    return cursor.refuse(
        Message("the file ends after {what}, before the `]` that closes the list", what=what),
        fix=Message("The file seems to be truncated; copy or download it again."),
    )


def _names(first: list[Any], columns: Collection[str]) -> list[str] | None:
    """Return the first list if it is distinct names, including all that the recipe names; otherwise None."""
    names = [name for name in first if isinstance(name, str)]
    distinct = len(set(names)) == len(first)
    return names if columns and distinct and set(columns) <= set(names) else None

"""Rows of a JSON list, read one by one."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import Any

from loraloom.data.formats.json_text import JsonCursor
from loraloom.data.formats.row import Findings, Row, location
from loraloom.errors import DataError, Problem

ONE_LIST = "Put the rows in one list, `[ {…}, {…} ]`, or one object on each line of a .jsonl file."
NAMELESS = "each row is a list, in which nothing names the columns"
AS_OBJECT = 'Write each row as an object, `{"instruction": …, "response": …}`.'
_JSON_TYPES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def type_name(value: Any) -> str:
    """A JSON value's type, for messages."""
    return _JSON_TYPES.get(type(value), "a number")


def rows_of_list(
    cursor: JsonCursor, shown_as: str, findings: Findings, columns: Collection[str]
) -> Iterator[Row]:
    """Rows of the list whose `[` was just read, up to and over its `]`.

    Args:
        cursor: at the list's first element.
        shown_as: the file's name in messages.
        findings: takes in what is wrong with single rows.
        columns: the columns that the recipe names; with them, a first list that holds them all
            names the columns of the lists after it.

    Raises:
        DataError: the list breaks off, or is one of lists without names.
    """
    if cursor.peek() == "]":
        cursor.skip()
        return
    header: list[str] | None = None
    for number in itertools.count(1):
        cursor.peek()
        line = cursor.line
        value = cursor.value(f"row {number}")
        where = location(shown_as, line)
        if number == 1 and isinstance(value, list):
            header = _names(value, columns)
            if header is None:
                raise nameless(where)
            findings.notes.append(f"{shown_as}: the first list was read as the names of the columns")
        else:
            if header is not None and isinstance(value, list) and len(value) == len(header):
                value = dict(zip(header, value, strict=True))
            row = number - (header is not None)
            if is_sound(value, cursor.flaws, row, where, findings):
                yield Row(shown_as, row, line, value)
        mark = cursor.peek()
        if mark not in (",", "]"):
            raise unclosed(cursor, mark, f"row {number}")
        cursor.skip()
        if mark == "]":
            return


def is_sound(value: Any, flaws: list[str], number: int, where: str, findings: Findings) -> bool:
    """Whether a row is an object without flaws; the findings are told if not."""
    fix = ""
    if not isinstance(value, dict):
        flaws, fix = [f"is {type_name(value)} where an object is needed"], AS_OBJECT
    for flaw in flaws:
        findings.refuse(Problem(f"row {number} {flaw}", where=where, fix=fix), number)
    return not flaws


def nameless(where: str) -> DataError:
    """The error for rows that are lists."""
    named = "or put the names in the first list and say in `data.columns` which is which"
    return DataError(NAMELESS, where=where, fix=f"{AS_OBJECT.removesuffix('.')}, {named}.")


def unclosed(cursor: JsonCursor, mark: str, what: str) -> DataError:
    """The error for a list that neither goes on nor ends after an element."""
    if mark:
        return cursor.refuse(f"after {what}, a comma or `]` is missing")
    return cursor.refuse(
        f"the file ends after {what}, before the `]` that closes the list",
        fix="It seems cut off: copy or download it again.",
    )


def _names(first: list[Any], columns: Collection[str]) -> list[str] | None:
    """The first list as the names of the columns; None if the recipe's are not all in it."""
    names = [name for name in first if isinstance(name, str)]
    distinct = len(set(names)) == len(first)
    return names if columns and distinct and set(columns) <= set(names) else None

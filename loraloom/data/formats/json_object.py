"""Rows of a file that contains one JSON object, or several one after another.

The file is read twice: first to find out how its rows are arranged, then to read them.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import Any

from loraloom.data.formats.json_list import ONE_LIST, is_sound, rows_of_list, unclosed
from loraloom.data.formats.json_shapes import (
    STREAM,
    Arrangement,
    Kind,
    Member,
    arrangement,
    member_of,
    refusal,
    rows_of_columns,
)
from loraloom.data.formats.json_text import JsonCursor
from loraloom.data.formats.row import Findings, Row, location
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message, said_by
from loraloom.text.visible import quoted

_KINDS: dict[str, Kind] = {"{": "rows", "[": "lists", "]": "empty"}


def survey(cursor: JsonCursor, shown_as: str, columns: Collection[str]) -> Arrangement:
    """Determine how the rows of an object are arranged.

    Args:
        cursor: at the object's beginning, in a separate pass over the file.
        shown_as: the file's name in messages.
        columns: the columns that the recipe names.

    Raises:
        DataError: the arrangement is unknown, or the object is truncated or not JSON. If a list of rows has
            begun before the error, nothing is raised here: `rows_of_object` raises it after those rows.
    """
    members: list[Member] = []
    broken: DataError | None = None
    try:
        for key in _keys(cursor):
            if cursor.peek() == "[":
                _survey_list(cursor, key, members)
            else:
                members.append(member_of(key, cursor.value(quoted(key))))
    except DataError as error:
        broken = error
    found = arrangement(members, columns)
    if found is None and not broken and cursor.peek() == "{":
        return STREAM
    if found is None or (broken and found.kind != "list"):
        raise broken or refusal(members, shown_as)
    return found


def rows_of_object(
    cursor: JsonCursor, found: Arrangement, shown_as: str, findings: Findings, columns: Collection[str]
) -> Iterator[Row]:
    """Read the rows of the object at the cursor, up to and including its `}`.

    Args:
        cursor: at the object's beginning.
        found: the result of `survey`.
        shown_as, findings: as in `rows_of_list`.
        columns: the columns that the recipe names.

    Raises:
        DataError: the object is truncated or not JSON.
    """
    if found.kind == "list":
        for key in _keys(cursor):
            if key == found.key and cursor.peek() == "[":
                cursor.skip()
                yield from rows_of_list(cursor, shown_as, findings, columns)
            else:
                cursor.value(quoted(key))
    elif found.kind == "stream":
        for number in itertools.count(1):
            yield from _row(cursor, number, shown_as, findings)
            if not cursor.peek():
                break
    elif found.kind == "labels":
        for number, _ in enumerate(_keys(cursor), start=1):
            yield from _row(cursor, number, shown_as, findings)
    else:
        yield from _rows_of_table(cursor, found, shown_as, findings)
    findings.notes.append(Message("{shown_as}: {note}", shown_as=shown_as, note=found.note))


def _row(cursor: JsonCursor, number: int, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the row at the cursor; if it has a problem, add that to `findings` and yield nothing."""
    cursor.peek()
    line = cursor.line
    value = cursor.value(Message("row {number}", number=number))
    if is_sound(value, cursor.flaws, number, location(shown_as, line), findings):
        yield Row(shown_as, number, line, value)


def _rows_of_table(
    cursor: JsonCursor, found: Arrangement, shown_as: str, findings: Findings
) -> Iterator[Row]:
    """Read the rows of a table that is stored column by column, or as lists beside their column names."""
    held: dict[str, Any] = {}
    for key in _keys(cursor):
        if key in held:
            raise cursor.refuse(Message("the key {key} appears twice in one object", key=quoted(key)))
        held[key] = cursor.value(quoted(key))
        for flaw in cursor.flaws:
            findings.refuse(Problem(f"{quoted(key)} {flaw}", where=shown_as))
    if found.kind == "split":
        for number, cells in enumerate(held["data"], start=1):
            if isinstance(cells, list) and len(cells) == len(held["columns"]):
                yield Row(shown_as, number, None, dict(zip(map(str, held["columns"]), cells, strict=True)))
            else:
                what = Message(
                    "row {number} is not a list of {num_columns} values, one for each column",
                    number=number,
                    num_columns=len(held["columns"]),
                )
                findings.refuse(Problem(what, where=shown_as), number)
        return
    try:
        rows = rows_of_columns(held)
    except ValueError as error:
        raise DataError(said_by(error), where=shown_as, fix=ONE_LIST) from None
    for number, values in enumerate(rows, start=1):
        yield Row(shown_as, number, None, values)


def _keys(cursor: JsonCursor) -> Iterator[str]:
    """Yield each key of an object, leaving the cursor at its value, which the caller must read."""
    cursor.peek()
    cursor.skip()
    while cursor.peek() != "}":
        if cursor.peek() != '"':
            raise cursor.refuse(Message("a key in double quotes is missing here"), fix=ONE_LIST)
        key = cursor.value(Message("a key"))
        if cursor.peek() != ":":
            raise cursor.refuse(Message("a colon is missing after a key"), fix=ONE_LIST)
        cursor.skip()
        cursor.peek()
        yield key
        mark = cursor.peek()
        if mark == ",":
            cursor.skip()
        elif mark != "}":
            raise cursor.refuse(
                Message("after {key}, a comma or `}}` is missing", key=quoted(key)), fix=ONE_LIST
            )
    cursor.skip()


def _survey_list(cursor: JsonCursor, key: str, members: list[Member]) -> None:
    """Append a summary of the list at the cursor to `members`, counting elements up to any error."""
    cursor.skip()
    kind = _KINDS.get(cursor.peek(), "values")
    length = 0
    try:
        while cursor.peek() != "]":
            cursor.value(Message("row {length}", length=length + 1))
            length += 1
            mark = cursor.peek()
            if mark == ",":
                cursor.skip()
            elif mark != "]":
                raise unclosed(cursor, mark, Message("row {length}", length=length))
    finally:
        members.append(Member(key, kind, length))
    cursor.skip()

"""JSON to rows: a list of objects, an object around such a list, or one object a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from loraloom.data.formats.json_text import (
    WHITESPACE,
    JsonCursor,
    StrictDecoder,
    TooDeepError,
    not_json,
    too_deep,
)
from loraloom.data.formats.opening import data_suffix
from loraloom.data.formats.row import Findings, Row, location, shown_name
from loraloom.data.formats.text import text_chunks, text_lines
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

Shape = Literal["list", "lines", "object"]

SNIFF_CHARS = 1 << 20
# A list under one of these is a single row's conversation, not a file's rows.
CONVERSATION_COLUMNS = ("conversation", "conversations", "messages")
_ONE_LIST = "Put the rows in one list, `[ {…}, {…} ]`, or one object on each line of a .jsonl file."
_JSON_TYPES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def read_json(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of a .json or .jsonl file; which shape it has is seen from its content, and noted if unexpected.

    Yields:
        Rows whose `line` is where their object begins.

    Raises:
        DataError: the text breaks off or is not JSON. In the one-object-a-line shape, reading
            goes on after a bad line and the problems are in `findings`.
    """
    chunks = text_chunks(path, settings.encoding, shown_as, findings)
    head, whole = _head(chunks)
    named: Shape = "lines" if data_suffix(path) in (".jsonl", ".ndjson") else "list"
    shape = _shape(head, whole, named, shown_as)
    text = itertools.chain([head], chunks)
    if shape == "lines":
        if named != "lines":
            findings.notes.append(f"{shown_as} holds one JSON object a line, and was read so")
        yield from _lines(text, shown_as, findings)
        return
    cursor = JsonCursor(text, shown_as)
    if shape == "list":
        if named != "list":
            findings.notes.append(f"{shown_as} holds one JSON list, and was read so")
        cursor.peek()
        cursor.skip()
        yield from _list(cursor, shown_as, findings)
    else:
        yield from _object(cursor, shown_as, findings)
    if cursor.peek():
        raise cursor.refuse("more follows the end of the list of rows", fix=_ONE_LIST)


def type_name(value: Any) -> str:
    """A JSON value's type, for messages."""
    return _JSON_TYPES.get(type(value), "a number")


def _head(chunks: Iterator[str]) -> tuple[str, bool]:
    """The first piece that shows what the file is: its first two lines, if they are not too long."""
    pieces: list[str] = []
    num_chars = newlines = 0
    for chunk in chunks:
        pieces.append(chunk)
        num_chars += len(chunk)
        newlines += chunk.count("\n")
        if num_chars >= SNIFF_CHARS or (newlines >= 2 and "".join(pieces).count("\n{")):
            return "".join(pieces), False
        if "".join(pieces[:1]).lstrip(WHITESPACE).startswith("["):
            return "".join(pieces), False
    return "".join(pieces), True


def _shape(head: str, whole: bool, named: Shape, shown_as: str) -> Shape:
    """What a file is, from its head, and from its name where its first line may be a bad row."""
    body = head.lstrip(WHITESPACE)
    first, _, rest = body.partition("\n")
    rest = rest.lstrip(WHITESPACE)
    rows_follow = _whole_object(rest.partition("\n")[0]) is not None
    if named == "lines" and (body.startswith("{") or (rows_follow and first.strip() != "[")):
        return "lines"
    if body.startswith("["):
        return "list"
    if body and not body.startswith("{"):
        raise DataError(
            "is not JSON: it begins with neither `[` nor `{`", where=shown_as, fix=_what_it_may_be(body)
        )
    value = _whole_object(first)
    if value is None and first.rstrip(WHITESPACE).endswith("["):
        return "object"  # {"data": [ and then one row a line
    if value is not None:
        alone = whole and not rest
        wraps = any(_is_rows(key, inner) for key, inner in value.items())
        return "object" if alone and wraps else "lines"
    return "lines" if not body or rows_follow else "object"


def _what_it_may_be(body: str) -> str:
    if body.startswith("<"):
        return "It looks like a web page: download the file itself."
    if body.startswith("version https://git-lfs"):
        return "It is a Git LFS pointer: run `git lfs pull`."
    return _ONE_LIST


def _whole_object(line: str) -> dict[str, Any] | None:
    try:
        value, end = StrictDecoder().decode(line)
    except (json.JSONDecodeError, TooDeepError):
        return None
    return value if isinstance(value, dict) and not line[end:].strip(WHITESPACE) else None


def _is_rows(key: str, value: Any) -> bool:
    is_list = isinstance(value, list) and key not in CONVERSATION_COLUMNS
    return is_list and bool(value) and isinstance(value[0], dict)


def _lines(chunks: Iterator[str], shown_as: str, findings: Findings) -> Iterator[Row]:
    decoder = StrictDecoder()
    number = 0
    for line_number, line in enumerate(text_lines(chunks), start=1):
        start = len(line) - len(line.lstrip(WHITESPACE))
        if start == len(line):
            continue
        number += 1
        what = f"row {number}"
        try:
            value, end = decoder.decode(line, start)
        except TooDeepError:
            findings.refuse(too_deep(what, location(shown_as, line_number)), number)
            continue
        except json.JSONDecodeError as error:
            column = min(error.pos, len(line.rstrip("\r\n"))) + 1
            findings.refuse(not_json(error.msg, what, location(shown_as, line_number, column)), number)
            continue
        rest = line[end:].lstrip(WHITESPACE)
        if rest:
            findings.refuse(
                Problem(
                    f"{what}: more follows its object on the same line",
                    where=location(shown_as, line_number, len(line) - len(rest) + 1),
                    fix="Give each object a line of its own, with nothing between them.",
                ),
                number,
            )
            continue
        if _is_sound(value, decoder.flaws, number, location(shown_as, line_number), findings):
            yield Row(shown_as, number, line_number, value)


def _list(cursor: JsonCursor, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of the list whose `[` was just read, up to and over its `]`."""
    if cursor.peek() == "]":
        cursor.skip()
        return
    for number in itertools.count(1):
        cursor.peek()
        line = cursor.line
        value = cursor.value(f"row {number}")
        if _is_sound(value, cursor.flaws, number, location(shown_as, line), findings):
            yield Row(shown_as, number, line, value)
        mark = cursor.peek()
        if mark not in (",", "]"):
            raise _unclosed(cursor, mark, number)
        cursor.skip()
        if mark == "]":
            return


def _unclosed(cursor: JsonCursor, mark: str, number: int) -> DataError:
    if mark:
        return cursor.refuse(f"after row {number}, a comma or `]` is missing")
    return cursor.refuse(
        f"the file ends after row {number}, before the `]` that closes the list",
        fix="It seems cut off: copy or download it again.",
    )


def _object(cursor: JsonCursor, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of the one list of objects inside an object, such as {"version": 1, "data": […]}."""
    found: list[str] = []
    cursor.peek()
    cursor.skip()
    while cursor.peek() != "}":
        if cursor.peek() != '"':
            raise cursor.refuse("a key in double quotes is missing here", fix=_ONE_LIST)
        key = cursor.value("a key")
        if cursor.peek() != ":":
            raise cursor.refuse("a colon is missing after a key", fix=_ONE_LIST)
        cursor.skip()
        if cursor.peek() == "[" and key not in CONVERSATION_COLUMNS and not found:
            cursor.skip()
            if cursor.peek() in ("{", "]"):
                found.append(key)
                yield from _list(cursor, shown_as, findings)
            else:
                raise cursor.refuse(f"{shown_name(key)} is not a list of objects", fix=_ONE_LIST)
        elif _is_rows(key, cursor.value(shown_name(key))):
            found.append(key)
        mark = cursor.peek()
        if mark == ",":
            cursor.skip()
        elif mark != "}":
            raise cursor.refuse(f"after {shown_name(key)}, a comma or `}}` is missing", fix=_ONE_LIST)
    cursor.skip()
    if len(found) != 1:
        lists = f"lists {' and '.join(map(shown_name, found))}" if found else "no list of rows"
        raise DataError(f"holds one object with {lists}; one list is needed", where=shown_as, fix=_ONE_LIST)
    findings.notes.append(f"{shown_as}: the rows are those of the list {shown_name(found[0])}")


def _is_sound(value: Any, flaws: list[str], number: int, where: str, findings: Findings) -> bool:
    if not isinstance(value, dict):
        flaws = [f"is {type_name(value)} where an object is needed"]
    for flaw in flaws:
        findings.refuse(Problem(f"row {number} {flaw}", where=where), number)
    return not flaws

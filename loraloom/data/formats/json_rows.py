"""Conversion of JSON to rows: a list of objects, one object per line, or a single object."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from loraloom.data.formats.compression import data_suffix
from loraloom.data.formats.json_list import ONE_LIST, is_sound, nameless, rows_of_list
from loraloom.data.formats.json_object import rows_of_object, survey
from loraloom.data.formats.json_shapes import CONVERSATION_COLUMNS, arrangement, member_of
from loraloom.data.formats.json_text import (
    WHITESPACE,
    JsonCursor,
    StrictDecoder,
    TooDeepError,
    not_json,
    too_deep,
)
from loraloom.data.formats.row import Findings, Row, location
from loraloom.data.formats.text import text_chunks, text_lines
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message

Shape = Literal["list", "lines", "object"]

SNIFF_CHARS = 1 << 20


def read_json(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the rows of a .json or .jsonl file; add a note if its suffix does not imply its shape.

    Yields:
        Rows whose `line` is the line on which their object begins.

    Raises:
        DataError: the text is truncated or not JSON. With one object per line, reading continues
            after an invalid line, and the problems are added to `findings` instead.
    """
    columns = settings.columns.values()
    chunks = text_chunks(path, settings.encoding, shown_as, findings)
    head, whole = _head(chunks)
    named: Shape = "lines" if data_suffix(path) in (".jsonl", ".ndjson") else "list"
    shape = _shape(head, whole, named, shown_as, columns)
    text = itertools.chain([head], chunks)
    exact = settings.number_format == "written"
    if shape == "lines":
        if named != "lines":
            findings.notes.append(
                Message(
                    "{shown_as} contains one JSON object per line and was read as such", shown_as=shown_as
                )
            )
        yield from _lines(text, shown_as, findings, exact)
        return
    cursor = JsonCursor(text, shown_as, keep_written=exact)
    if shape == "list":
        if named != "list":
            findings.notes.append(
                Message("{shown_as} contains one JSON list and was read as such", shown_as=shown_as)
            )
        cursor.peek()
        cursor.skip()
        yield from rows_of_list(cursor, shown_as, findings, columns)
    else:
        surveyed = JsonCursor(text_chunks(path, settings.encoding, shown_as, Findings()), shown_as)
        found = survey(surveyed, shown_as, columns)
        yield from rows_of_object(cursor, found, shown_as, findings, columns)
    if cursor.peek():
        raise cursor.refuse(Message("there is more text after the end of the list of rows"), fix=ONE_LIST)


def _head(chunks: Iterator[str]) -> tuple[str, bool]:
    """Return enough of a file's beginning to show its shape, and whether that is the whole file."""
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


def _shape(head: str, whole: bool, named: Shape, shown_as: str, columns: Collection[str]) -> Shape:
    """Detect a file's shape from its head, or from its name if its first line may be an invalid row."""
    body = head.lstrip(WHITESPACE)
    first, ended, rest = body.partition("\n")
    rest = rest.lstrip(WHITESPACE)
    first_value, second_value = _whole_value(first), _whole_value(rest.partition("\n")[0])
    if isinstance(first_value, list) and isinstance(second_value, list):
        raise nameless(location(shown_as, 1))  # one list per line
    if isinstance(first_value, dict):
        is_table = whole and not rest and _is_table(first_value, named, columns)
        return "object" if is_table else "lines"
    rows_follow = isinstance(second_value, dict)
    opened = first.rstrip(WHITESPACE)
    if named == "lines" and rows_follow and opened != "[":
        return "lines"  # after an invalid first row
    if body.startswith("["):
        return "list"
    if body and not body.startswith("{"):
        raise DataError(
            Message("is not JSON: it begins with neither `[` nor `{{`"),
            where=shown_as,
            fix=_what_it_may_be(body),
        )
    if named == "lines" and not (ended and opened.endswith(("{", "[", ","))):
        return "lines"  # nothing shows that the first line is more than an invalid row
    if opened.endswith("["):
        return "object"  # {"data": [ followed by one row per line
    return "lines" if not body or rows_follow else "object"


def _is_table(value: Mapping[str, object], named: Shape, columns: Collection[str]) -> bool:
    """Return whether an object alone in its file contains all rows, rather than being one row itself."""
    members = [member_of(key, inner) for key, inner in value.items()]
    found = arrangement(members, columns)
    if found is None:
        # What cannot be a row is refused as a table: several lists of rows, columns of unequal length.
        kinds = [member.kind for member in members]
        columns_only = named == "list" and len(kinds) > 1 and set(kinds) == {"values"}
        is_talk = any(member.key in CONVERSATION_COLUMNS for member in members)
        return columns_only or (kinds.count("rows") > 1 and not is_talk)
    if named == "list":
        return True
    # In a file with one object per line, a line is a row unless that is nearly impossible.
    if found.kind == "list":
        return all(member.kind not in ("scalar", "empty") for member in members)
    return found.kind != "columns" or (all(member.length > 1 for member in members) and len(members) > 1)


def _what_it_may_be(body: str) -> str:
    if body.startswith("<"):
        return Message("It looks like a web page; download the file itself.")
    if body.startswith("version https://git-lfs"):
        return Message("It is a Git LFS pointer: run `git lfs pull`.")
    return ONE_LIST


def _whole_value(line: str) -> Any:
    """Return the object or list on a line; None if it is anything else or not JSON."""
    try:
        value, end = StrictDecoder().decode(line)
    except (json.JSONDecodeError, TooDeepError):
        return None
    return value if isinstance(value, dict | list) and not line[end:].strip(WHITESPACE) else None


def _lines(chunks: Iterator[str], shown_as: str, findings: Findings, exact: bool) -> Iterator[Row]:
    decoder = StrictDecoder(keep_written=exact)
    number = 0
    for line_number, line in enumerate(text_lines(chunks), start=1):
        start = len(line) - len(line.lstrip(WHITESPACE))
        if start == len(line):
            continue
        number += 1
        what = Message("row {number}", number=number)
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
                    Message("{what}: there is more text after its object on the same line", what=what),
                    where=location(shown_as, line_number, len(line) - len(rest) + 1),
                    fix=Message("Put each object on a line of its own, with nothing between them."),
                ),
                number,
            )
            continue
        if is_sound(value, decoder.flaws, number, location(shown_as, line_number), findings):
            yield Row(shown_as, number, line_number, value)

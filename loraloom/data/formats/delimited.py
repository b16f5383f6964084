"""Conversion of CSV and TSV to rows, as written by pandas, R, Excel and scripts.

first lines ──delimiter.py──▶ separator ──tsv_quoting.py──▶ cells ──header.py──▶ Row, Row, …
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loraloom.data.formats.compression import data_suffix
from loraloom.data.formats.delimiter import SAMPLE_CHARS, likely_delimiter, sep_line, separated_by
from loraloom.data.formats.header import Header, read_header
from loraloom.data.formats.row import Findings, Row, location
from loraloom.data.formats.text import text_chunks, text_lines
from loraloom.data.formats.tsv_quoting import is_quoted
from loraloom.errors import Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message

MAX_CELL_CHARS = 1 << 24
_UNCLOSED = Message("opens a double quote that is never closed")
_TOO_LARGE = Message(
    "has a cell of more than {limit:,} characters; a double quote is probably not closed",
    limit=MAX_CELL_CHARS,
)
# One cell has swallowed the rows after it, so skipping this row would lose them too. The same may be true
# of any other row that spans several lines and has misplaced quotes.
_SWALLOWING = (_UNCLOSED, _TOO_LARGE)
_QUOTED = Message(
    "A cell that contains the separator, a quote or a line break must be in double quotes, "
    "with quotes inside it doubled; set `data.quoting: none` if double quotes are part of the "
    "text."
)
_PLAIN = Message(
    "Double quotes are read as text in this file; set `data.quoting: csv` if they enclose cells."
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Syntax of a file's cells.

    Args:
        delimiter: the separator.
        quoted: whether double quotes enclose cells; otherwise they are text.
        skip: number of lines before the header (Excel's `sep=` line).
    """

    delimiter: str
    quoted: bool
    skip: int

    @property
    def fix(self) -> str:
        """Advice on how to write cells so that they can be told apart."""
        return _QUOTED if self.quoted else _PLAIN


class Record(NamedTuple):
    """A row of cells as written in the file.

    Args:
        begins_on: number of its first line, from 1.
        cells: the cells, or a description of what is wrong with them.
        num_cells: number of cells on each of its lines if quotes were plain text; empty if it is on one line.
    """

    begins_on: int
    cells: list[str] | str
    num_cells: tuple[int, ...] = ()


def has_header(shown_as: str) -> bool:
    """Return whether a file's format has a header; if so, its first line is always read as the header."""
    return data_suffix(shown_as) in (".csv", ".tsv")


def read_csv(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the rows of a .csv or .tsv file with a header, continuing after invalid rows.

    Separator and quoting are detected unless the recipe sets them. Notes report a detected separator that
    the suffix does not imply, and how quotes in a tab-separated file were read. An unnamed index column,
    unnamed empty columns, and rows that contain only separators are skipped with a note. Skipped rows still
    count, so that row numbers match a spreadsheet's.
    """
    dialect = _dialect(path, settings, shown_as, findings)
    lines = text_lines(text_chunks(path, settings.encoding, shown_as, findings))
    records = _quoted_records(lines, dialect) if dialect.quoted else _plain_records(lines, dialect)
    header: Header | None = None
    number = num_blank = 0
    for begins_on, cells, num_cells in records:
        where = location(shown_as, begins_on)
        if isinstance(cells, str):
            number += header is not None
            what = Message("row {number}", number=number) if header else Message("the header")
            problem = Problem(Message("{what} {cells}", what=what, cells=cells), where=where, fix=dialect.fix)
            if cells in _SWALLOWING or num_cells or header is None:  # the problem affects more than one row
                findings.refuse(problem)
            else:
                findings.refuse(problem, number)
            if header is None:
                return
        elif header is None:
            if "".join(cells).strip():
                header = read_header(cells, dialect.delimiter, where)
        elif "".join(cells).strip():
            number += 1
            header.see_lines(num_cells, begins_on)
            values = header.values(cells, number, where, dialect.fix, findings)
            if values is not None:
                yield Row(shown_as, number, begins_on, values)
        elif len(cells) > 1:
            number += 1
            num_blank += 1
        elif cells and len(header.names) == 1:
            number += 1
            yield Row(shown_as, number, begins_on, {header.names[0]: cells[0]})
    if num_blank:
        findings.notes.append(
            Message(
                "{shown_as}: skipped {num_blank:,} rows that contain only separators",
                shown_as=shown_as,
                num_blank=num_blank,
            )
            if num_blank > 1
            else Message(
                "{shown_as}: skipped {num_blank:,} row that contains only separators",
                shown_as=shown_as,
                num_blank=num_blank,
            )
        )
    findings.notes += header.notes(shown_as) if header else []


def _dialect(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Dialect:
    """Return the dialect, as set in the recipe or detected in the file; add notes only on unusual syntax."""
    # The csv module's default of 131,072 would refuse long documents; a limit catches an unclosed quote.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARS))
    head = _head(path, settings, shown_as)
    usual = "\t" if data_suffix(path) == ".tsv" else ","
    named = sep_line(head[0]) if head else None
    skip = int(named is not None)
    if settings.delimiter is not None:
        delimiter = "\t" if settings.delimiter == "tab" else settings.delimiter
    else:
        delimiter = named or likely_delimiter(head, usual)
        if delimiter != usual:
            note: str = Message(
                "cells are separated by {separated_by} (`data.delimiter` sets another separator)",
                separated_by=separated_by(delimiter),
            )
            findings.notes.append(Message("{shown_as}: {note}", shown_as=shown_as, note=note))
    if settings.quoting != "auto" or delimiter != "\t":
        return Dialect(delimiter, settings.quoting != "none", skip)
    lines = text_lines(text_chunks(path, settings.encoding, shown_as, Findings()))
    quoted = is_quoted(_after(lines, skip), delimiter)
    if quoted is not None:
        note = (
            Message("double quotes were read as enclosing cells, as in CSV (`data.quoting: none` keeps them)")
            if quoted
            else Message(
                "double quotes were read as part of the text (`data.quoting: csv` reads them as in CSV)"
            )
        )
        findings.notes.append(Message("{shown_as}: {note}", shown_as=shown_as, note=note))
    return Dialect(delimiter, bool(quoted), skip)


def _head(path: Path, settings: DataSettings, shown_as: str) -> list[str]:
    """Return the first lines; if the file goes on, omit the last of them, whose row may be incomplete."""
    head: list[str] = []
    num_chars = 0
    lines = text_lines(text_chunks(path, settings.encoding, shown_as, Findings()))
    for line in lines:
        head.append(line)
        num_chars += len(line)
        if num_chars >= SAMPLE_CHARS:
            return head[:-1] or head
    return head


def _after(lines: Iterator[str], skip: int) -> Iterator[str]:
    for _ in range(skip):
        next(lines, None)
    return lines


def _quoted_records(lines: Iterator[str], dialect: Dialect) -> Iterator[Record]:
    taken: list[str] = []

    def kept() -> Iterator[str]:
        for line in _after(lines, dialect.skip):
            taken.append(line)
            yield line

    reader = csv.reader(kept(), delimiter=dialect.delimiter, strict=True)
    while True:
        begins_on = reader.line_num + dialect.skip + 1
        taken.clear()
        cells: list[str] | str
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = _describe_error(error)
        spans = tuple(line.count(dialect.delimiter) + 1 for line in taken) if len(taken) > 1 else ()
        yield Record(begins_on, cells, spans)


def _plain_records(lines: Iterator[str], dialect: Dialect) -> Iterator[Record]:
    for number, line in enumerate(_after(lines, dialect.skip), start=dialect.skip + 1):
        body = line.removesuffix("\n").removesuffix("\r")
        if "\r" in body:
            yield Record(number, Message("contains a carriage return; lines must end in \\n or \\r\\n"))
        else:
            yield Record(number, body.split(dialect.delimiter) if body else [])


def _describe_error(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return _UNCLOSED
    if "field larger" in message:
        return _TOO_LARGE
    if "expected after" in message:
        return Message("has text right after a closing double quote")
    # The only other error: a carriage return that is neither quoted nor at the end of a line.
    return Message("has a carriage return outside double quotes; lines must end in \\n or \\r\\n")

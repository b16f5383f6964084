"""The header of a table, and the assignment of cells to its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loraloom.data.formats.row import Findings
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message

MAX_NAME_CHARS = 80
_WHOLE_NUMBER = re.compile(r"\s*-?\d+\s*")
_NEAR_QUOTED = re.compile(r'\s+".*"\s*', re.DOTALL)


class Header:
    """The columns of a table.

    A column without a name is skipped if no text is lost: an index at the front, as pandas writes, or an
    empty column, as spreadsheets leave at the end. Text in a column without a name is a problem.

    Args:
        cells: cells of the header; "" if a column has no name.
    """

    def __init__(self, cells: Sequence[str]) -> None:
        self._cells = list(cells)
        self._num_leading = next(place for place, name in enumerate(cells) if name)
        self._shortest = max(place for place, name in enumerate(cells) if name) + 1
        self._has_index = False
        self._num_near_quoted = 0
        self._num_spanning = 0
        self._like_rows: list[int] = []
        self._is_first = True

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name in self._cells if name]

    def values(
        self, cells: list[str], number: int, where: str, fix: str, findings: Findings
    ) -> dict[str, str] | None:
        """Return a row's cells by column name; None if there is a problem, which is added to `findings`.

        Args:
            cells: cells of the row.
            number, where: number and place of the row, for messages.
            fix: what to do if there are too many or too few cells.
        """
        if self._is_first:
            self._is_first = False
            # Each row may end in a separator even if the header does not.
            if len(cells) == len(self._cells) + 1 and not cells[-1].strip():
                self._cells.append("")
        if not self._shortest <= len(cells) <= len(self._cells):
            findings.refuse(self._of_other_length(cells, number, where, fix), number)
            return None
        values: dict[str, str] = {}
        for place, cell in enumerate(cells):
            if name := self._cells[place]:
                values[name] = cell
                if cell[:1].isspace() and _NEAR_QUOTED.fullmatch(cell):
                    self._num_near_quoted += 1
            elif place < self._num_leading and _WHOLE_NUMBER.fullmatch(cell):
                self._has_index = True
            elif cell.strip():
                findings.refuse(_unnamed(place, number, where), number)
                return None
        return values

    def see_lines(self, num_cells: Sequence[int], begins_on: int) -> None:
        """Count a row if it spans several lines, because an unclosed quote may have merged rows into it.

        Args:
            num_cells: number of cells on each of the row's lines if quotes were plain text; empty if it is
                on one line.
            begins_on: number of the row's first line.
        """
        if num_cells and all(number == len(self._cells) for number in num_cells):
            self._like_rows.append(begins_on)
        elif num_cells:
            self._num_spanning += 1

    def notes(self, shown_as: str) -> list[str]:
        """Return notes for the user on skipped columns and suspicious quotes; call it after the last row."""
        num_empty = len(self._cells) - len(self.names) - self._num_leading * self._has_index
        notes: list[str] = []
        if self._has_index:
            notes.append(
                Message(
                    "{shown_as}: skipped the index column at the front, which has no name", shown_as=shown_as
                )
            )
        if num_empty:
            notes.append(
                Message(
                    "{shown_as}: skipped {num_empty} empty columns without a name",
                    shown_as=shown_as,
                    num_empty=num_empty,
                )
                if num_empty > 1
                else Message(
                    "{shown_as}: skipped {num_empty} empty column without a name",
                    shown_as=shown_as,
                    num_empty=num_empty,
                )
            )
        if self._num_near_quoted:
            notes.append(
                Message(
                    "{shown_as}: cells with a space before their double quotes: {num_near_quoted}; "
                    "spaces and quotes are kept as text (remove the spaces if the quotes enclose cells)",
                    shown_as=shown_as,
                    num_near_quoted=self._num_near_quoted,
                )
            )
        if len(self._like_rows) > self._num_spanning:
            notes.append(
                Message(
                    "{shown_as}: rows that span several lines, although each line could be a separate row: "
                    "{num__like_rows}, the first on line {like_rows} (set `data.quoting: none` if "
                    "the double quotes are part of the text)",
                    shown_as=shown_as,
                    num__like_rows=len(self._like_rows),
                    like_rows=self._like_rows[0],
                )
            )
        return notes

    def _of_other_length(self, cells: list[str], number: int, where: str, fix: str) -> Problem:
        if len(cells) == len(self._cells) + 1 and _WHOLE_NUMBER.fullmatch(cells[0]):
            fix = Message(
                "{fix} If the rows begin with a number (R's row names), add a name for that column to the "
                "header.",
                fix=fix,
            )
        return Problem(
            Message("row {number}: does not have as many cells as the header", number=number),
            where=where,
            found=str(len(cells)),
            allowed=str(len(self._cells)),
            fix=fix,
        )


def _example(delimiter: str) -> str:
    """Return a header as it would be typed; a tab is named, because it looks like spaces in a terminal."""
    if delimiter == "\t":
        return Message("`instruction` and `response`, separated by a tab")
    return Message("`instruction{delimiter}response`", delimiter=delimiter)


def read_header(cells: list[str], delimiter: str, where: str) -> Header:
    """Read the header of a table.

    Args:
        cells: cells of the first line, not all blank.
        delimiter: the separator.
        where: place of the line, for messages.

    Raises:
        DataError: a name is too long, has a line break or appears twice, or all names are in one cell.
    """
    names = [cell.strip() for cell in cells]
    places: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if len(name) > MAX_NAME_CHARS or "\n" in name:
            raise DataError(
                Message(
                    "the first line must name the columns, but its cell {position} has {num_name} characters",
                    position=position,
                    num_name=len(name),
                ),
                where=where,
                fix=Message("Add a header line such as {example}.", example=_example(delimiter)),
            )
        first = places.setdefault(name, position) if name else position
        if first != position:  # if the header is missing, these cells belong to a row, so none is shown
            raise DataError(
                Message(
                    "cells {first} and {position} of the header contain the same name",
                    first=first,
                    position=position,
                ),
                where=where,
            )
    others = [mark for mark in (";", "\t", ",", "|") if mark != delimiter and mark in names[0]]
    if len(names) == 1 and others:
        shown = {"\t": Message("a tab")}.get(others[0], f"`{others[0]}`")
        raise DataError(
            Message(
                "the header has one column, which contains {shown}: the separator is probably a "
                "different one",
                shown=shown,
            ),
            where=where,
            fix=Message("Remove `data.delimiter` to detect the separator, or set it to the right one."),
        )
    return Header(names)


def _unnamed(place: int, number: int, where: str) -> Problem:
    return Problem(
        Message(
            "row {number} has text in column {place}, which the header does not name",
            number=number,
            place=place + 1,
        ),
        where=where,
        fix=Message("Add a name for the column to the header."),
    )

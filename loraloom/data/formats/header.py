"""A table's header, and what its rows hold under it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loraloom.data.formats.row import Findings
from loraloom.errors import DataError, Problem

MAX_NAME_CHARS = 80
_WHOLE_NUMBER = re.compile(r"\s*-?\d+\s*")
_NEAR_QUOTED = re.compile(r'\s+".*"\s*', re.DOTALL)


class Header:
    """The columns of a table.

    A column without a name is left out where nothing is lost with it: an index in front, as pandas
    writes it, or an empty one, as spreadsheets leave at the end. Text in one is a problem.

    Args:
        cells: the header's; "" where a column has no name.
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
        """The names of its columns."""
        return [name for name in self._cells if name]

    def values(
        self, cells: list[str], number: int, where: str, fix: str, findings: Findings
    ) -> dict[str, str] | None:
        """A row's cells by column; None if something is wrong, which goes to the findings.

        Args:
            cells: the row's.
            number, where: of the row, for messages.
            fix: what to do if there are too many cells or too few.
        """
        if self._is_first:
            self._is_first = False
            # Each row may end in a separator though the header does not.
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
        """Take in a row that spans several lines: an unclosed quote melts rows together just so.

        Args:
            num_cells: of each of its lines, if quotes are text; empty for a row on one line.
            begins_on: its first line.
        """
        if num_cells and all(number == len(self._cells) for number in num_cells):
            self._like_rows.append(begins_on)
        elif num_cells:
            self._num_spanning += 1

    def notes(self, shown_as: str) -> list[str]:
        """What was accepted and should be known; to be asked after the last row."""
        num_empty = len(self._cells) - len(self.names) - self._num_leading * self._has_index
        notes = []
        if self._has_index:
            notes.append(f"{shown_as}: an index without a name, in front, was left out")
        if num_empty:
            notes.append(f"{shown_as}: empty columns without a name, left out: {num_empty}")
        if self._num_near_quoted:
            notes.append(
                f"{shown_as}: cells that have a space in front of their double quotes, and keep both: "
                f"{self._num_near_quoted} (take the spaces out if the quotes stand around cells)"
            )
        if len(self._like_rows) > self._num_spanning:
            notes.append(
                f"{shown_as}: rows that span several lines of which each could be a row of its own: "
                f"{len(self._like_rows)}, the first on line {self._like_rows[0]} "
                "(set `data.quoting: none` if their double quotes are part of the text)"
            )
        return notes

    def _of_other_length(self, cells: list[str], number: int, where: str, fix: str) -> Problem:
        if len(cells) == len(self._cells) + 1 and _WHOLE_NUMBER.fullmatch(cells[0]):
            fix += " If the rows begin with a number of their own (R's row names), name it in the header."
        return Problem(
            f"row {number}: its number of cells is not the header's",
            where=where,
            found=str(len(cells)),
            allowed=str(len(self._cells)),
            fix=fix,
        )


def read_header(cells: list[str], delimiter: str, where: str) -> Header:
    """The header of a table.

    Args:
        cells: the first line's, not all blank.
        delimiter: what separates them.
        where: the line, for messages.

    Raises:
        DataError: a name is too long to be one, or stands twice, or all names are in one cell.
    """
    names = [cell.strip() for cell in cells]
    places: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if len(name) > MAX_NAME_CHARS or "\n" in name:
            raise DataError(
                f"the first line must name the columns, but its cell {position} has {len(name)} characters",
                where=where,
                fix=f"Put a header in front, such as `instruction{delimiter}response`.",
            )
        first = places.setdefault(name, position) if name else position
        if first != position:  # without a header these would be a row's, so no name is shown
            raise DataError(f"the header's cells {first} and {position} are the same name", where=where)
    others = [mark for mark in (";", "\t", ",", "|") if mark != delimiter and mark in names[0]]
    if len(names) == 1 and others:
        shown = {"\t": "a tab"}.get(others[0], f"`{others[0]}`")
        raise DataError(
            f"the header has one column, and {shown} inside it: the separator is probably another",
            where=where,
            fix="Leave `data.delimiter` out to have it found, or set it to what separates the cells.",
        )
    return Header(names)


def _unnamed(place: int, number: int, where: str) -> Problem:
    return Problem(
        f"row {number} has text in column {place + 1}, which the header does not name",
        where=where,
        fix="Name the column in the header.",
    )

r"""Detection of whether double quotes in a tab-separated file enclose cells, as in CSV, or are text.

Plain TSV has no quoting: `"Hi," he said` is a cell as written. pandas and R write TSV with CSV's
quoting. Read the wrong way, cells lose their quotes or rows merge, although no row looks wrong.
Therefore the whole file is read both ways before deciding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# An unclosed quote must not collect the whole file.
MAX_RECORD_CHARS = 1 << 20
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+(?:[eE][-+]?\d+)?\s*")


@dataclass(slots=True)
class _Plain:
    """Statistics of a file when quotes are read as text.

    Args:
        width: number of cells of the header.
        num_bad: number of lines whose number of cells differs from `width`.
        begins: whether any cell begins with a quote; if none does, both readings are the same.
        stray: whether any cell contains quotes where CSV does not allow them.
        doubled: whether any quoted cell contains quotes, each written twice.
        header_quoted: whether any name in the header is quoted.
        quoted: indices of the columns with at least one quoted text.
        bare: indices of the columns with at least one text without quotes.
    """

    width: int = 0
    num_bad: int = 0
    begins: bool = False
    stray: bool = False
    doubled: bool = False
    header_quoted: bool = False
    quoted: set[int] = field(default_factory=set)
    bare: set[int] = field(default_factory=set)

    def add(self, cells: list[str]) -> None:
        is_header = self.width == 0
        self.width = self.width or len(cells)
        self.num_bad += len(cells) != self.width
        for column, cell in enumerate(cells):
            if '"' not in cell:
                if not is_header and cell.strip() and not _NUMBER.fullmatch(cell):
                    self.bare.add(column)
                continue
            self.begins |= cell.startswith('"')
            if not _QUOTED.fullmatch(cell):
                self.stray = True
            elif is_header:
                self.header_quoted = True
            else:
                self.quoted.add(column)
                self.doubled |= '""' in cell[1:-1]


class _Csv:
    """Statistics of a file when quotes enclose cells, strictly by RFC 4180."""

    def __init__(self, delimiter: str) -> None:
        self.num_bad = 0
        self._delimiter = delimiter
        mark = re.escape(delimiter)
        cell = rf'(?:{_QUOTED.pattern}|[^"{mark}]*)'
        self._row = re.compile(rf"{cell}(?:{mark}{cell})*")
        self._open: list[str] = []
        self._num_quotes = self._num_chars = 0

    @property
    def is_inside(self) -> bool:
        """Whether a quoted cell is open, so that a blank line is part of it."""
        return bool(self._open)

    def add(self, line: str, width: int) -> None:
        self._open.append(line)
        self._num_quotes += line.count('"')
        self._num_chars += len(line)
        # A row is complete if its number of quotes is even.
        if self._num_quotes % 2 and self._num_chars <= MAX_RECORD_CHARS:
            return
        row = "".join(self._open).rstrip("\r\n")
        fits = self._row.fullmatch(row) and _QUOTED.sub("", row).count(self._delimiter) + 1 == width
        self.num_bad += 0 if fits else len(self._open)
        self._open.clear()
        self._num_quotes = self._num_chars = 0

    def end(self) -> None:
        self.num_bad += len(self._open)


def is_quoted(lines: Iterable[str], delimiter: str) -> bool | None:
    """Return whether the cells of a tab-separated file are quoted as in CSV.

    Args:
        lines: lines of the whole file, with their line breaks.
        delimiter: the separator.

    Returns:
        None if no cell begins with a double quote, so that both readings are the same. If both
        readings fit equally well, True only if the quotes are as a CSV writer would write them.
    """
    plain, quoted = _Plain(), _Csv(delimiter)
    for line in lines:
        body = line.rstrip("\r\n")
        if body:
            plain.add(body.split(delimiter))
        if body or quoted.is_inside:
            quoted.add(line, plain.width)
    quoted.end()
    if not plain.begins:
        return None
    if quoted.num_bad != plain.num_bad:
        return quoted.num_bad < plain.num_bad
    return _is_written_as_csv(plain, fits=quoted.num_bad == 0)


def _is_written_as_csv(plain: _Plain, *, fits: bool) -> bool:
    """Return whether quotes are as a CSV writer would write them, if both readings fit a file equally well.

    Quotes around only some of the texts prove nothing, because those texts may be quotations.

    Args:
        plain: statistics of the file when quotes are read as text.
        fits: whether every row is valid when quotes are read as in CSV.
    """
    if plain.header_quoted or (plain.doubled and fits):
        return True
    all_text_quoted = bool(plain.quoted) and not plain.bare
    return not plain.stray and (plain.doubled or all_text_quoted)

"""What separates a table's cells: Excel's `sep=` line says it, or the first rows show it."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence

SAMPLE_ROWS = 20
SAMPLE_CHARS = 1 << 18
CANDIDATES = (",", "\t", ";", "|")
# Excel writes it, and takes it, in front of the header; it is no row.
_SEP_LINE = re.compile(r'"?sep=(?P<mark>[^"\r\n])"?\r?\n?', re.IGNORECASE)
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}


def sep_line(line: str) -> str | None:
    """The separator that a `sep=` line names; None if it is another line."""
    match = _SEP_LINE.fullmatch(line)
    return match["mark"] if match else None


def separated_by(mark: str) -> str:
    """The separator in a sentence: `semicolons`."""
    return _NAMES.get(mark, f"`{mark}`")


def likely_delimiter(head: Sequence[str], usual: str) -> str:
    """The separator with which most of the first rows are as long as the header.

    Args:
        head: the first lines, whole ones.
        usual: what the file's suffix promises, one of `CANDIDATES`; taken unless more rows fit
            with another, so that a file in order is never read otherwise than by its name.
    """
    fits = {mark: _fit(head, mark) for mark in CANDIDATES}
    best = max(CANDIDATES, key=lambda mark: fits[mark])
    return best if fits[best][0] > fits[usual][0] else usual


def _fit(head: Sequence[str], mark: str) -> tuple[float, int]:
    """The share of rows that fit the header, and its number of columns; (0, 1) for a single column."""
    lengths: list[int] = []
    try:
        for cells in itertools.islice(csv.reader(head, delimiter=mark), SAMPLE_ROWS + 1):
            if "".join(cells).strip():
                lengths.append(len(cells))
    except csv.Error:
        pass  # what is wrong is said when the rows are read
    width, *rows = lengths or [1]
    if width < 2:
        return 0.0, 1
    # Rows may end in one separator more than their header.
    fitting = sum(length in (width, width + 1) for length in rows)
    return (fitting / len(rows) if rows else 1.0), width

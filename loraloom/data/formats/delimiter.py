"""Detection of a table's separator, from Excel's `sep=` line or from the first rows."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence

from loraloom.text.message import Message

SAMPLE_ROWS = 20
SAMPLE_CHARS = 1 << 18
CANDIDATES = (",", "\t", ";", "|")
# Excel writes and reads this line in front of the header; it is not a row.
_SEP_LINE = re.compile(r'"?sep=(?P<mark>[^"\r\n])"?\r?\n?', re.IGNORECASE)
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": Message("vertical bars")}


def sep_line(line: str) -> str | None:
    """Return the separator that a `sep=` line names; None for any other line."""
    match = _SEP_LINE.fullmatch(line)
    return match["mark"] if match else None


def separated_by(mark: str) -> str:
    """Return the plural name of a separator, for a sentence: `semicolons`."""
    return _NAMES.get(mark, f"`{mark}`")


def likely_delimiter(head: Sequence[str], usual: str) -> str:
    """Return the separator with which most of the first rows have as many cells as the header.

    Args:
        head: the first lines, each complete.
        usual: the separator that the file's suffix implies, one of `CANDIDATES`. It is kept unless
            another separator fits more rows, so that a valid file is always read according to its name.
    """
    fits = {mark: _fit(head, mark) for mark in CANDIDATES}
    best = max(CANDIDATES, key=lambda mark: fits[mark])
    return best if fits[best][0] > fits[usual][0] else usual


def _fit(head: Sequence[str], mark: str) -> tuple[float, int]:
    """Return the share of rows that fit the header, and the header's number of cells; (0, 1) if that is 1."""
    lengths: list[int] = []
    try:
        for cells in itertools.islice(csv.reader(head, delimiter=mark), SAMPLE_ROWS + 1):
            if "".join(cells).strip():
                lengths.append(len(cells))
    except csv.Error:
        pass  # reported when the rows are read
    width, *rows = lengths or [1]
    if width < 2:
        return 0.0, 1
    # Rows may end in one separator more than their header.
    fitting = sum(length in (width, width + 1) for length in rows)
    return (fitting / len(rows) if rows else 1.0), width

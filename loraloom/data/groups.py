"""What must stay on one side of a split, and which of it to take for a wanted number of rows."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

RowId = tuple[str, int]  # a file's name and the row's number there


def source_key(source: str) -> bytes:
    """What two sources share when a model cannot tell them apart.

    White space and compatibility forms are levelled for the comparison alone, as the tokenizers of
    the T5 family level them (NFKC); the training text stays as it is.
    """
    levelled = " ".join(unicodedata.normalize("NFKC", source).split())
    return hashlib.blake2b(levelled.encode(), digest_size=16).digest()


class SourceGroups:
    """Which rows belong together: a conversation's turns are one row's, and rows may share a source."""

    def __init__(self) -> None:
        self._row_of: dict[bytes, RowId] = {}  # a source's first row
        self._joined: dict[RowId, RowId] = {}  # a row to another one of its group: a forest

    def join(self, row: RowId, sources: Iterable[str]) -> None:
        """Note a row's sources, and join it with the earlier rows that share one."""
        for source in sources:
            first = self._row_of.setdefault(source_key(source), row)
            if first != row:
                self._unite(row, first)

    def of(self, row: RowId) -> RowId:
        """The row that a row's group is known by."""
        while (parent := self._joined.get(row, row)) != row:
            self._joined[row] = self._joined.get(parent, parent)
            row = parent
        return row

    def _unite(self, row: RowId, other: RowId) -> None:
        first, second = sorted((self.of(row), self.of(other)))
        if first != second:
            self._joined[second] = first


def choose_parts(sizes: Sequence[int], wanted: Sequence[int]) -> list[list[int]]:
    """Take whole groups for several parts, one part after the other, and leave some.

    Args:
        sizes: the rows of each group, in a random order.
        wanted: how many rows each part is to have; above 0.

    Returns:
        For each part, positions in `sizes`, as `choose_groups` takes them from what is left. A part
        that would leave nothing for the later ones takes the one group nearest to its number;
        it is empty where there are too few groups for all parts.
    """
    left = list(range(len(sizes)))
    parts: list[list[int]] = []
    for position, number in enumerate(wanted):
        to_leave = len(wanted) - position
        of_left = choose_groups([sizes[group] for group in left], number)
        chosen = [left[place] for place in of_left]
        if len(left) - len(chosen) < to_leave:
            enough = len(left) > to_leave
            chosen = [min(left, key=lambda group: abs(sizes[group] - number))] if enough else []
        parts.append(chosen)
        taken = set(chosen)
        left = [group for group in left if group not in taken]
    return parts


def choose_groups(sizes: Sequence[int], wanted: int) -> list[int]:
    """Take whole groups, in their order, so that they hold the wanted number of rows.

    Args:
        sizes: the rows of each group, in a random order.
        wanted: how many rows to take; above 0.

    Returns:
        Positions in `sizes`, ascending. Their rows are exactly `wanted` where any choice of groups
        allows it, else the nearest number that takes some groups and leaves some; empty where
        there is no such number.
    """
    chosen: list[int] = []
    taken = 0
    for position, size in enumerate(sizes):
        if taken + size <= wanted:
            chosen.append(position)
            taken += size
    if taken == wanted and len(chosen) < len(sizes):
        return chosen
    numbers = _numbers_of_each_size(Counter(sizes), Counter(sizes[position] for position in chosen), wanted)
    chosen = []
    for position, size in enumerate(sizes):
        if numbers.get(size, 0) > 0:
            chosen.append(position)
            numbers[size] -= 1
    return chosen


def _numbers_of_each_size(have: Counter[int], first_try: Counter[int], wanted: int) -> dict[int, int]:
    """How many groups of each size make the sum nearest to `wanted`, close to the first try.

    A bounded knapsack: bit n of `reachable[i]` says whether the first i sizes can make n rows.
    """
    sizes = sorted(have)
    reachable = [1]
    for size in sizes:
        sums, left, piece = reachable[-1], have[size], 1
        while left:
            piece = min(piece, left)
            sums |= sums << (size * piece)
            left, piece = left - piece, piece * 2
        reachable.append(sums & ((1 << (wanted + sizes[-1] + 1)) - 1))
    total = sum(size * number for size, number in have.items())
    rows = _nearest(reachable[-1], wanted, total)
    numbers: dict[int, int] = {}
    for position in range(len(sizes) - 1, -1, -1):
        size = sizes[position]
        most = min(have[size], rows // size)
        near = sorted(range(most + 1), key=lambda number: abs(number - first_try[size]))
        numbers[size] = next(n for n in near if reachable[position] >> (rows - n * size) & 1)
        rows -= numbers[size] * size
    return numbers


def _nearest(sums: int, wanted: int, total: int) -> int:
    """The sum nearest to `wanted` that is neither 0 nor all there is; 0 where there is none."""
    for distance in range(max(wanted, total) + 1):
        for rows in (wanted - distance, wanted + distance):
            if 0 < rows < total and sums >> rows & 1:
                return rows
    return 0

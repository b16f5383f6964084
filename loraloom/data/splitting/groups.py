"""Groups of rows that must stay in one part of the split, and the choice of groups by number of rows."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RowId = tuple[str, int]  # a file's name and the row's number there
# The largest share of all conversations that one group may contain; a few larger groups would make usual
# eval shares impossible. Opening and closing turns are in far more, copies and branches in far fewer.
LARGEST = 0.05


def source_key(source: str) -> bytes:
    """Return a key that is equal for sources that a model cannot distinguish.

    White space and compatibility forms are normalized for the comparison alone, as the tokenizers of
    the T5 family normalize them (NFKC); the training text is not changed.
    """
    levelled = " ".join(unicodedata.normalize("NFKC", source).split())
    return hashlib.blake2b(levelled.encode(), digest_size=16).digest()


class SourceGroups:
    """Groups of rows that belong together, because they have the same sources or share a turn.

    Conversations that contain the same turn belong together if only a few do. A turn of many conversations
    would join all of them, so it joins none: it is called *shared*, and the split keeps all rows whose source
    is this turn in one part.
    """

    def __init__(self) -> None:
        self._joined: dict[RowId, RowId] = {}  # row -> another row of its group: a forest
        self._alone: dict[bytes, RowId] = {}  # source of a single-question row -> its first row
        self._together: dict[frozenset[bytes], RowId] = {}  # set of a conversation's sources -> first row
        # Source of a turn -> first row of each set that contains it.
        self._holders: dict[bytes, list[RowId]] = {}

    def join(self, row: RowId, sources: Iterable[str]) -> None:
        """Record a row's sources, and join the row with an earlier one that has the same sources."""
        keys = frozenset(map(source_key, sources))
        if not keys:
            return
        if len(keys) == 1:
            first = self._alone.setdefault(next(iter(keys)), row)
        else:
            first = self._together.setdefault(keys, row)
        if first != row:
            self._joined[row] = first
        elif len(keys) > 1:
            for key in keys:
                self._holders.setdefault(key, []).append(row)

    def tie(self) -> frozenset[bytes]:
        """Join the rows that share a turn, after all rows are recorded.

        Returns:
            The keys of the shared turns, each of which would form a group of more than the share `LARGEST`
            of all rows (rows with the same sources count once), and therefore joins no rows.
        """
        for key, rows in self._holders.items():
            if key in self._alone:
                rows.append(self._alone[key])
        most = max(2, int(LARGEST * (len(self._alone) + len(self._together))))
        sizes: Counter[RowId] = Counter()
        shared = set()
        held = [(key, sorted(rows)) for key, rows in self._holders.items() if len(rows) > 1]
        # Rarest first: turns that few conversations have are the best evidence of which belong together.
        for key, rows in sorted(held, key=lambda each: (len(each[1]), each[1])):
            groups = sorted({self.of(row) for row in rows})
            size = sum(sizes[group] or 1 for group in groups)
            if len(groups) > 1 and size > most:
                shared.add(key)
                continue
            for group in groups[1:]:
                self._joined[group] = groups[0]
            sizes[groups[0]] = size
        return frozenset(shared)

    def of(self, row: RowId) -> RowId:
        """Return the row that represents a row's group."""
        while (parent := self._joined.get(row, row)) != row:
            self._joined[row] = self._joined.get(parent, parent)
            row = parent
        return row


def choose_parts(sizes: Sequence[int] | npt.NDArray[np.integer], wanted: Sequence[int]) -> list[list[int]]:
    """Choose whole groups for several parts, one part after another, and leave some groups over.

    Args:
        sizes: number of rows of each group, in a random order.
        wanted: number of rows that each part should have; above 0.

    Returns:
        For each part, the positions in `sizes` of its groups, which `choose_groups` chooses from those that
        earlier parts have left. If this choice leaves too few groups for the later parts, the part gets only
        the one group whose size is nearest to the wanted number. A part is empty if there are too few
        groups for all parts.
    """
    import numpy as np  # imported late, because problems of data are reported without it

    own = np.asarray(sizes)  # as an array, because there may be many millions
    left = np.arange(len(own))
    parts: list[list[int]] = []
    for position, number in enumerate(wanted):
        to_leave = len(wanted) - position
        of_left = choose_groups(own[left].tolist(), number)
        chosen = left[of_left].tolist()
        if len(left) - len(chosen) < to_leave:
            enough = len(left) > to_leave
            chosen = [int(left[np.argmin(np.abs(own[left].astype(np.int64) - number))])] if enough else []
        parts.append(chosen)
        is_left = np.ones(len(own), np.bool_)
        is_left[chosen] = False
        left = left[is_left[left]]
    return parts


def choose_groups(sizes: Sequence[int], wanted: int) -> list[int]:
    """Choose whole groups, in order, that together contain the wanted number of rows.

    Args:
        sizes: number of rows of each group, in a random order.
        wanted: number of rows to take; above 0.

    Returns:
        Positions in `sizes`, ascending. Together, these groups have exactly `wanted` rows if any choice of
        groups does, otherwise the nearest possible number. At least one group is chosen and at least one
        is left over; empty if that is impossible.
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
    """Return how many groups of each size give the sum nearest to `wanted`, with counts near `first_try`.

    A bounded knapsack: bit n of `reachable[i]` is set if groups of the first i sizes can add up to n rows.
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
    """Return the sum nearest to `wanted` that is neither 0 nor `total`; 0 if there is none."""
    for distance in range(max(wanted, total) + 1):
        for rows in (wanted - distance, wanted + distance):
            if 0 < rows < total and sums >> rows & 1:
                return rows
    return 0

"""Arrangement of examples in rows with little padding, but not so wide that attention becomes expensive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from loraloom.data.encoding import EncodedExample
from loraloom.errors import DataError
from loraloom.text.message import Message

# Source and target tokens of a row.
Width = tuple[int, int]
# Widths of rows that are tried, as multiples of the longest example.
WIDENINGS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
FULL = 1.04  # positions per token; once a width needs no more, wider rows are not tried
# Tokens of a row for which attention takes as long as all work on single tokens: about the value of
# mt5-small on a processor; larger models have more work per token.
LONG_ROW = 900


class Arrangement(NamedTuple):
    """The rows of a batch.

    Args:
        rows: for each slot and each of its rows, the indices of the row's examples.
        width: width of every row.
    """

    rows: list[list[list[int]]]
    width: Width

    @property
    def num_positions(self) -> int:
        """The number of source and target positions of all rows, padding included."""
        return sum(map(len, self.rows)) * sum(self.width)

    @property
    def cost(self) -> float:
        """The work of a pass over the rows, in units of the work for one token of a short row.

        Padding costs as much as other tokens, and the cost of attention per token grows with the row's width.
        """
        source, target = self.width
        pairs = source**2 + target**2 + source * target
        return self.num_positions + sum(map(len, self.rows)) * pairs / LONG_ROW


def arrange(slots: Sequence[Sequence[EncodedExample]], *, packing: bool) -> Arrangement:
    """Arrange the examples of every slot in rows.

    With rows only as wide as the longest example, a quarter of a batch of five examples is padding. Wider
    rows have less padding, but the cost of attention grows with the square of the width. A few widths are
    tried, and the one with the lowest cost is used.

    Args:
        slots: the examples of each slot; there is at least one slot, and each has at least one example.
        packing: whether a row may contain several examples; otherwise each example has its own row.
    """
    longest = _width([[example] for own in slots for example in own])
    if not packing:
        return Arrangement([[[index] for index in range(len(own))] for own in slots], longest)
    one_row, candidates = _width(slots), []
    num_tokens = sum(len(example.input_ids) + len(example.labels) for own in slots for example in own)
    for widening in WIDENINGS:
        capacity = int(longest[0] * widening), int(longest[1] * widening)
        rows = [pack(own, capacity) for own in slots]
        used = [
            [own[index] for index in row] for own, packed in zip(slots, rows, strict=True) for row in packed
        ]
        candidates.append(Arrangement(rows, _width(used)))
        is_full = candidates[-1].num_positions <= FULL * num_tokens
        if is_full or (capacity[0] >= one_row[0] and capacity[1] >= one_row[1]):
            break
    return min(candidates, key=lambda each: each.cost)


def _width(rows: Sequence[Sequence[EncodedExample]]) -> Width:
    """Return the largest number of source tokens and of target tokens in any row."""
    sources = max(sum(len(example.input_ids) for example in row) for row in rows)
    return sources, max(sum(len(example.labels) for example in row) for row in rows)


def pack(examples: Sequence[EncodedExample], capacity: tuple[int, int]) -> list[list[int]]:
    """Assign examples to rows with little padding.

    First-fit decreasing by target length (Johnson, 1973: at most 11/9 of the optimum plus a constant).

    Args:
        examples: token ids without padding, of any lengths.
        capacity: source tokens and target tokens that fit in a row.

    Returns:
        For each row, the indices of its examples.

    Raises:
        DataError: a single example is longer than a row.
    """
    rows: list[list[int]] = []
    room: list[list[int]] = []
    order = sorted(
        range(len(examples)), key=lambda i: (-len(examples[i].labels), -len(examples[i].input_ids), i)
    )
    for index in order:
        lengths = len(examples[index].input_ids), len(examples[index].labels)
        if lengths[0] > capacity[0] or lengths[1] > capacity[1]:
            raise DataError(
                Message("an example is longer than a row"),
                found=Message("{lengths} tokens", lengths=lengths),
                allowed=Message("at most {capacity}", capacity=capacity),
            )
        for row, free in zip(rows, room, strict=True):
            if lengths[0] <= free[0] and lengths[1] <= free[1]:
                row.append(index)
                free[0] -= lengths[0]
                free[1] -= lengths[1]
                break
        else:
            rows.append([index])
            room.append([capacity[0] - lengths[0], capacity[1] - lengths[1]])
    return rows

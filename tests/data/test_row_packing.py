"""Examples in rows: nothing is lost, and the width is the one of the least work."""

from __future__ import annotations

import numpy as np
import pytest

from loraloom.data.encoding import EncodedExample
from loraloom.data.row_packing import LONG_ROW, Arrangement, arrange


def example(source: int, target: int) -> EncodedExample:
    return EncodedExample(np.full(source, 7, np.int32), np.full(target, 8, np.int32))


def examples(*lengths: tuple[int, int]) -> list[EncodedExample]:
    return [example(*each) for each in lengths]


def tokens(arrangement: Arrangement) -> int:
    return sum(map(len, arrangement.rows)) * sum(arrangement.width)


def widths(own: list[EncodedExample], rows: list[list[int]]) -> list[tuple[int, int]]:
    """Source and target tokens of each row."""
    return [(sum(len(own[i].input_ids) for i in row), sum(len(own[i].labels) for i in row)) for row in rows]


@pytest.mark.parametrize("packing", [False, True])
def test_every_example_is_in_one_row_and_fits(packing: bool) -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        numbers = draw.integers(1, 9, draw.integers(1, 4)).tolist()
        slots = [examples(*draw.integers(1, 60, (number, 2)).tolist()) for number in numbers]
        found = arrange(slots, packing=packing)
        used = [widths(own, rows) for own, rows in zip(slots, found.rows, strict=True)]
        for own, rows in zip(slots, found.rows, strict=True):
            assert sorted(index for row in rows for index in row) == list(range(len(own)))
        assert found.width == tuple(max(width[side] for own in used for width in own) for side in (0, 1))
        assert found.cost <= arrange(slots, packing=False).cost


def test_short_rows_share_one_and_long_ones_do_not() -> None:
    """Five of 10 and 50 tokens, all unlike; the same a hundred times as long, where attention is the most."""
    lengths = [(10, 50), (9, 41), (8, 33), (7, 27), (5, 19)]
    short = arrange([examples(*lengths)], packing=True)
    padded = arrange([examples(*lengths)], packing=False)
    assert tokens(short) < 0.8 * tokens(padded)
    assert short.width[1] > 50
    long = arrange([examples(*((100 * a, 100 * b) for a, b in lengths))], packing=True)
    assert long.width[1] == 5000 > LONG_ROW


def test_parts_have_rows_of_one_width() -> None:
    found = arrange([examples((10, 50), (10, 50)), examples((3, 20))], packing=True)
    assert found.rows == [[[0], [1]], [[0]]]
    assert found.width == (10, 50)

"""The rows that a proof uses."""

from __future__ import annotations

from itertools import pairwise

import pytest

from loraloom.data.example import Example
from loraloom.export.proof import spread


@pytest.mark.parametrize(("total", "number"), [(100, 64), (127, 64), (64, 64), (20, 8), (3, 8), (0, 8)])
def test_rows_are_chosen_from_the_whole_list(total: int, number: int) -> None:
    rows = [Example("a", "b", "rows.jsonl", place, line=None, turn=0, group="") for place in range(total)]
    chosen = [row.row for row in spread(rows, number)]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(total, number)
    ends = [*chosen, total] if chosen else []
    gaps = {later - earlier for earlier, later in pairwise(ends)}
    assert not gaps or max(gaps) - min(gaps) <= 1

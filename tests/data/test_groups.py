"""Whole groups that hold a wanted number of rows."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from loraloom.data.splitting.groups import choose_groups, choose_parts


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(1, 30))
def test_no_choice_of_groups_comes_nearer(sizes, wanted):
    chosen = choose_groups(sizes, wanted)
    possible = {sum(some) for k in range(1, len(sizes)) for some in combinations(sizes, k)} - {sum(sizes)}
    if not possible:
        assert chosen == []
        return
    assert chosen == sorted(set(chosen))
    rows = sum(sizes[position] for position in chosen)
    assert rows in possible
    assert abs(rows - wanted) == min(abs(other - wanted) for other in possible)


def test_rows_alone_are_taken_in_their_order():
    assert choose_groups([1] * 10, 3) == [0, 1, 2]


def test_many_groups_take_no_time():
    sizes = [3, 2] * 100_000
    assert sum(sizes[position] for position in choose_groups(sizes, 250_001)) == 250_001


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=3, max_size=12), st.integers(1, 30), st.integers(1, 30))
def test_two_parts_and_the_rest_each_get_a_group(sizes, first, second):
    parts = choose_parts(sizes, [first, second])
    taken = [position for part in parts for position in part]
    assert all(parts)
    assert len(set(taken)) == len(taken) < len(sizes)


def test_too_few_groups_leave_a_part_empty():
    assert choose_parts([5, 5], [1, 1]) == [[], [0]]
    assert choose_parts([5], [1]) == [[]]

"""Outcomes by value: everything has a finite place, what failed is a cross, names stand in a row."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.report.scatter import Point, scatter_chart

NUMBERS = st.floats(1e-9, 1e6)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20), st.booleans())
def test_every_place_is_inside_the_plot(outcomes: list[tuple[float, float]], log_x: bool) -> None:
    svg = scatter_chart([Point(x, y, "a") for x, y in outcomes], label="x", log_x=log_x, is_joined=True)
    places = [float(place) for place in re.findall(r'c[xy]="([-\d.]+|nan|inf)%"', svg)]
    assert len(places) == 2 * len(outcomes)
    assert all(-0.01 <= place <= 100.01 for place in places)


@given(st.lists(NUMBERS, min_size=2, max_size=8, unique=True))
def test_larger_values_stand_further_right(values: list[float]) -> None:
    svg = scatter_chart([Point(x, 1.0, "a") for x in sorted(values)], label="x", log_x=True)
    places = [float(place) for place in re.findall(r'cx="([\d.]+)%"', svg)]
    assert places == sorted(places)


def test_what_came_to_nothing_is_a_cross_on_the_side_of_the_worse() -> None:
    points = [Point(1.0, 2.0, "a"), Point(2.0, None, "failed")]
    high = scatter_chart(points, label="x", higher_is_better=False)
    low = scatter_chart(points, label="x", higher_is_better=True)
    assert high.count("cross") == low.count("cross") == 1
    assert re.search(r'y="0"[^>]*class="cross"', high)
    assert re.search(r'y="100%"[^>]*class="cross"', low)


def test_names_stand_in_a_row() -> None:
    svg = scatter_chart([Point(name, 1.0, name) for name in ("q, v", "all-linear", "q, v")], label="x")
    assert re.findall(r'cx="([\d.]+)%"', svg) == ["25.00", "75.00", "25.00"]
    assert ">all-linear</text>" in svg


def test_where_nothing_came_out_there_is_no_chart() -> None:
    assert scatter_chart([Point(1.0, None, "a")], label="x") == ""


@pytest.mark.parametrize("name", ["</title><script>", '"><script>'])
def test_no_label_leaves_its_place(name: str) -> None:
    svg = scatter_chart([Point(name, 1.0, name)], label=name, level=(1.0, name), marks=[])
    assert "<script>" not in svg

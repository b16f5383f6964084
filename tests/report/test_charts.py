"""Charts: ticks are round and hold the data, peaks survive thinning, what lies far apart gets a log axis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.report.axes import Scale, linear_scale, log_scale, nice_ticks
from loraloom.report.charts import Line, is_log, line_chart, thinned
from loraloom.text.units import number


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-4, 1e6))
def test_ticks_are_few_and_hold_the_range(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width, 5)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6 * width
    assert ticks[-1] >= low + width - 1e-6 * width


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5000))
def test_thinning_keeps_the_extremes_and_the_order(values: list[float]) -> None:
    points = list(enumerate(values))
    kept = thinned(points, 100)
    assert len(kept) <= 100 or len(points) <= 100
    assert min(v for _, v in kept) == min(values)
    assert max(v for _, v in kept) == max(values)
    assert [s for s, _ in kept] == sorted({s for s, _ in kept})


@pytest.mark.parametrize("values", [[0.0], [2.5, 2.5], [0.0, 0.0], [1e-9, 1e9], [0.0, 1e-5, 3e-3]])
def test_every_place_is_finite(values: list[float]) -> None:
    line = Line("a", 0, list(enumerate(values, 1)), has_dots=True)
    for compare_peaks in (False, True):
        svg = line_chart([line], label="x", compare_peaks=compare_peaks)
        assert "nan" not in svg
        assert "inf" not in svg


def test_nothing_to_draw_is_no_chart() -> None:
    assert line_chart([Line("a", 0, [])], label="x") == ""


def test_far_apart_learning_rates_share_a_log_axis() -> None:
    fast, slow = (Line("a", 0, [(s, peak * (1 - s / 11)) for s in range(11)]) for peak in (3e-3, 9.65e-7))
    assert is_log([fast, slow], compare_peaks=True)
    assert not is_log([fast], compare_peaks=True)  # one schedule that ends near zero is a straight line


def test_a_label_cannot_leave_its_place() -> None:
    svg = line_chart([Line("</title><script>", 0, [(1, math.pi)], has_dots=True)], label='"><script>')
    assert "<script>" not in svg


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (1200, "1,200"), (9.65e-7, "9.65e−7"), (-2, "−2"), (1e6, "1e6")],
)
def test_ticks_read_as_people_write(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (log_scale(0.2, 8.0), ["0.1", "1", "10"]),
        (log_scale(2e-5, 0.05), ["1e−5", "1e−4", "1e−3", "1e−2", "1e−1"]),
        (linear_scale(0.0, 1e-3), ["0", "2e−4", "4e−4", "6e−4", "8e−4", "1e−3"]),
        (linear_scale(-0.5, 0.5), ["−0.6", "−0.4", "−0.2", "0", "0.2", "0.4", "0.6"]),
    ],
)
def test_all_ticks_of_an_axis_are_written_in_one_way(scale: Scale, labels: list[str]) -> None:
    assert [scale.write(tick) for tick in scale.ticks] == labels

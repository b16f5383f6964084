"""Line charts of values by training step, and small charts within text and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from loraloom.report.axes import (
    Scale,
    colour,
    element,
    linear_scale,
    log_scale,
    nice_ticks,
    on_box,
    position,
    stretched,
    x_axis,
    y_axis,
)
from loraloom.text.message import Message
from loraloom.text.units import number

Points = Sequence[tuple[float, float]]

# More points than pixels are useless; the minimum and the maximum of every interval are kept.
MOST_POINTS = 1200
MOST_DOTS = 200
# Values that differ by more than this factor do not fit on a linear axis.
LOG_FROM = 30.0
LOG_FROM_PEAKS = 8.0


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: name in the tooltips of its points.
        number: number of the experiment, which determines the colour.
        points: pairs of a step and a value.
        is_faint: whether to draw it thin, as noise in the background.
        has_dots: whether every point has a dot with its value.
        ringed: the step whose dot has a ring (the checkpoint that was kept).
    """

    label: str
    number: int
    points: Points
    is_faint: bool = False
    has_dots: bool = False
    ringed: int | None = None


def line_chart(lines: Sequence[Line], *, label: str, compare_peaks: bool = False) -> Markup:
    """Draw lines of values by step, on one pair of axes.

    Args:
        lines: the lines to draw; lines without points are omitted.
        label: description for screen readers.
        compare_peaks: use a log axis if the maxima of the lines are far apart, however small their other
            values are (for learning rates, which all end near zero).
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    values = [value for line in lines for _, value in line.points]
    if is_log(lines, compare_peaks=compare_peaks):
        scale = _log_scale(values, lines, compare_peaks)
    else:
        scale = linear_scale(0.0 if compare_peaks else min(values), max(values))
    last = max(step for line in lines for step, _ in line.points)
    parts = [*y_axis(scale), *x_axis(_steps(last))]
    faint_first = sorted(lines, key=lambda line: not line.is_faint)
    parts += [_path(line, scale, last) for line in faint_first]
    parts += [dot for line in faint_first for dot in _dots(line, scale, last)]
    return element("svg", *parts, class_="plot", role="img", aria_label=label)


def is_log(lines: Sequence[Line], *, compare_peaks: bool) -> bool:
    """Return whether `line_chart` uses a logarithmic axis for these lines."""
    lines = [line for line in lines if line.points]
    if not lines:
        return False
    if compare_peaks:
        peaks = [max(value for _, value in line.points) for line in lines]
        return min(peaks) > 0 and max(peaks) / min(peaks) > LOG_FROM_PEAKS
    values = [value for line in lines for _, value in line.points]
    return min(values) > 0 and max(values) / min(values) > LOG_FROM


def _log_scale(values: Sequence[float], lines: Sequence[Line], compare_peaks: bool) -> Scale:
    positive = [value for value in values if value > 0]
    lowest = min(positive)
    if compare_peaks:
        # A schedule ends near zero, which a log axis cannot show: end two decades below the smallest peak.
        lowest = max(lowest, min(max(value for _, value in line.points) for line in lines) / 100)
    return log_scale(lowest, max(positive))


def _steps(last: float) -> Iterable[tuple[float, str]]:
    # Step 0 has no loss, but the axis starts there anyway, so that lengths are comparable.
    for tick in nice_ticks(0, max(last, 1), 5):
        if tick <= max(last, 1) * 1.001 and float(tick).is_integer():
            yield tick / max(last, 1), number(tick)


def _path(line: Line, scale: Scale, last: float) -> Markup:
    width = max(last, 1)
    points = " ".join(
        on_box(step / width, scale.place(value))
        for step, value in thinned(line.points)
        if value > 0 or not scale.is_log  # a log axis cannot show zero
    )
    look = f"line{' faint' if line.is_faint else ''} {colour(line.number)}"
    return stretched(element("polyline", points=points, class_=look))


def _dots(line: Line, scale: Scale, last: float) -> Iterable[Markup]:
    if not line.has_dots and len(line.points) > 1:
        return  # a single point is not a line, so it gets a dot
    for step, value in line.points[:: math.ceil(len(line.points) / MOST_DOTS)]:
        place = {"cx": position(step / max(last, 1)), "cy": position(1 - scale.place(value))}
        title = element(
            "title", Message("{line}: {value:.4g} at step {step:,}", line=line.label, value=value, step=step)
        )
        if step == line.ringed:
            yield element("circle", title, r="6.5", class_=f"ring {colour(line.number)}", **place)
        yield element("circle", title, r="3", class_=f"dot {colour(line.number)}", **place)


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """Keep at most `most` points: those with the least and the greatest value of each interval, in order."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / (most // 2))
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        ends = {
            min(stretch, key=lambda point: point[1]): None,
            max(stretch, key=lambda point: point[1]): None,
        }
        kept += sorted(ends)
    return kept


def interval_chart(difference: float, low: float, high: float, reach: float, verdict: str) -> Markup:
    """Draw a difference as a dot on its confidence interval, with a vertical line at zero.

    Args:
        reach: the largest absolute value that the chart can show; charts to be compared share it.
        verdict: determines the colour.
    """
    shares = (0.5 + 0.46 * value / reach if reach else 0.5 for value in (difference, low, high))
    x, left, right = map(position, shares)
    return element(
        "svg",
        element("line", x1="50%", x2="50%", y1="0", y2="100%", class_="zero"),
        element("line", x1=left, x2=right, y1="50%", y2="50%", class_="whisker"),
        element("circle", cx=x, cy="50%", r="3.5", class_="point"),
        class_=f"interval {verdict_class(verdict)}",
        aria_hidden="true",
    )


def bar_chart(value: float, longest: float, colour_class: str) -> Markup:
    """Draw a value as a bar; the bar of the value `longest` fills the width."""
    width = position(value / longest if longest else 0)
    return element(
        "svg",
        element("rect", width=width, height="100%", class_=f"fill {colour_class}"),
        class_="bar",
        aria_hidden="true",
    )


def verdict_class(verdict: str) -> str:
    """Return the CSS class for a verdict."""
    return {"better": "better", "worse": "worse", "did nothing": "nothing", "nothing changed": "nothing"}.get(
        verdict, "unclear"
    )

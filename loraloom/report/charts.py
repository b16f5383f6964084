"""Charts as inline SVG: places in per cent, so that text keeps its size at every width.

No style attributes (the page's policy forbids them): colours are classes of the page's style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from loraloom.report.figures import MINUS

Points = Sequence[tuple[float, float]]

NUM_COLOURS = 8
# More points than pixels show nothing more; the lowest and the highest of every stretch stay.
MOST_POINTS = 1200
MOST_DOTS = 200
# Values this many times apart do not fit one linear axis.
LOG_FROM = 30.0
LOG_FROM_PEAKS = 8.0


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Args:
        label: said of its points.
        number: of the experiment, which gives the colour.
        points: (step, value).
        is_faint: drawn thin: the noise behind what counts.
        has_dots: whether every point has a dot that says its value.
        ringed: the step whose dot has a ring (the checkpoint that was kept).
    """

    label: str
    number: int
    points: Points
    is_faint: bool = False
    has_dots: bool = False
    ringed: int | None = None


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An SVG element; every text and attribute escaped. `class_` is class, `text_anchor` text-anchor."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{given}>{inner}</{name}>")


def line_chart(lines: Sequence[Line], *, label: str, compare_peaks: bool = False) -> Markup:
    """Lines over steps, on one pair of axes.

    Args:
        lines: those without points are left out.
        label: for who cannot see it.
        compare_peaks: log where the lines' highest points lie far apart (learning rates, which all
            end near zero), rather than where any two values do.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    values = [value for line in lines for _, value in line.points]
    if is_log(lines, compare_peaks=compare_peaks):
        scale = _log_scale(values, lines, compare_peaks)
    else:
        scale = _linear_scale(values, compare_peaks)
    last = max(step for line in lines for step, _ in line.points)
    parts = [*_y_axis(scale), *_x_axis(last)]
    faint_first = sorted(lines, key=lambda line: not line.is_faint)
    parts += [_path(line, scale, last) for line in faint_first]
    parts += [dot for line in faint_first for dot in _dots(line, scale, last)]
    return element("svg", *parts, class_="plot", role="img", aria_label=label)


@dataclass(frozen=True)
class Scale:
    """An axis: which values, where the ticks stand."""

    low: float
    high: float
    ticks: list[float]
    is_log: bool

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.is_log:
            value = max(value, self.low)  # the end of a schedule lies on the edge
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def write(self, value: float) -> str:
        """A tick's label."""
        return f"1e{round(math.log10(value))}".replace("-", MINUS) if self.is_log else short_number(value)


def is_log(lines: Sequence[Line], *, compare_peaks: bool) -> bool:
    """Whether `line_chart` gives these lines a logarithmic axis."""
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
        # A schedule ends near zero, which has no place here: two decades below the smallest peak do.
        lowest = max(lowest, min(max(value for _, value in line.points) for line in lines) / 100)
    low, high = math.floor(math.log10(lowest)), math.ceil(math.log10(max(positive)))
    high = max(high, low + 1)
    step = math.ceil((high - low) / 6)
    ticks = [10.0**power for power in range(low, high + 1, step)]
    return Scale(10.0**low, 10.0**high, ticks, is_log=True)


def _linear_scale(values: Sequence[float], from_zero: bool) -> Scale:
    low, high = (0.0 if from_zero else min(values)), max(values)
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    ticks = nice_ticks(low, high, 5)
    step = ticks[1] - ticks[0]
    return Scale(math.floor(low / step) * step, math.ceil(high / step) * step, ticks, is_log=False)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from below `low` to above `high`, `about` so many of them."""
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def short_number(value: float) -> str:
    """A tick as people write it: 0.5, 1,200, 1e-5."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.6g}".replace("-", MINUS)
    mantissa, power = f"{value:.5e}".split("e")
    return f"{float(mantissa):g}e{int(power)}".replace("-", MINUS)


def _y_axis(scale: Scale) -> Iterable[Markup]:
    for tick in scale.ticks:
        y = percent(1 - scale.place(tick))
        yield element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid")
        yield element("text", scale.write(tick), x="-8", y=y, dy="0.35em", class_="tick y")


def _x_axis(last: float) -> Iterable[Markup]:
    # A point at step 0 has no loss: the axis begins there all the same, so that lengths compare.
    for tick in nice_ticks(0, max(last, 1), 5):
        if tick <= max(last, 1) * 1.001 and float(tick).is_integer():
            x = percent(tick / max(last, 1))
            yield element("line", x1=x, x2=x, y1="100%", y2="100%", class_="grid")
            yield element("text", short_number(tick), x=x, y="100%", dy="1.5em", class_="tick x")


def _path(line: Line, scale: Scale, last: float) -> Markup:
    """The line, in a box of 1000 by 1000 that is stretched over the plot."""
    width = max(last, 1)
    points = " ".join(
        f"{1000 * step / width:.1f},{1000 * (1 - scale.place(value)):.1f}"
        for step, value in thinned(line.points)
        if value > 0 or not scale.is_log  # zero has no place there
    )
    drawn = element(
        "polyline", points=points, class_=f"line{' faint' if line.is_faint else ''} {colour(line.number)}"
    )
    return element("svg", drawn, viewBox="0 0 1000 1000", preserveAspectRatio="none", class_="stretched")


def _dots(line: Line, scale: Scale, last: float) -> Iterable[Markup]:
    if not line.has_dots and len(line.points) > 1:
        return  # a single point makes no line, so it gets its dot
    for step, value in line.points[:: math.ceil(len(line.points) / MOST_DOTS)]:
        place = {"cx": percent(step / max(last, 1)), "cy": percent(1 - scale.place(value))}
        title = element("title", f"{line.label}: {value:.4g} at step {step:,}")
        if step == line.ringed:
            yield element("circle", title, r="6.5", class_=f"ring {colour(line.number)}", **place)
        yield element("circle", title, r="3", class_=f"dot {colour(line.number)}", **place)


def thinned(points: Points, most: int = MOST_POINTS) -> Points:
    """No more points than that: of every stretch the lowest and the highest, in order."""
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
    """A difference as a dot on its interval, beside the line of no difference.

    Args:
        reach: the value at either edge, shared by all that are to be compared by eye.
        verdict: colours it.
    """
    shares = (0.5 + 0.46 * value / reach if reach else 0.5 for value in (difference, low, high))
    x, left, right = map(percent, shares)
    return element(
        "svg",
        element("line", x1="50%", x2="50%", y1="0", y2="100%", class_="zero"),
        element("line", x1=left, x2=right, y1="50%", y2="50%", class_="whisker"),
        element("circle", cx=x, cy="50%", r="3.5", class_="point"),
        class_=f"interval {verdict_class(verdict)}",
        aria_hidden="true",
    )


def bar_chart(value: float, longest: float, colour_class: str) -> Markup:
    """A value as a bar; the longest one fills the width."""
    width = percent(value / longest if longest else 0)
    return element(
        "svg",
        element("rect", width=width, height="100%", class_=f"fill {colour_class}"),
        class_="bar",
        aria_hidden="true",
    )


def colour(number: int) -> str:
    """The classes of an experiment's colour: eight of them, and dashes for the next eight."""
    return f"c{number % NUM_COLOURS}" + (" dashed" if number // NUM_COLOURS % 2 else "")


def verdict_class(verdict: str) -> str:
    """The class of the style sheet for a verdict's word."""
    return {"better": "better", "worse": "worse", "did nothing": "nothing", "nothing changed": "nothing"}.get(
        verdict, "unclear"
    )


def percent(share: float) -> str:
    """A share as SVG places things."""
    return f"{100 * share:.2f}%"

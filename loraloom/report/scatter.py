"""A scatter chart of results by the values of a setting: numbers (on a linear or log axis) or names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from loraloom.report.axes import (
    Scale,
    element,
    linear_scale,
    log_scale,
    on_box,
    position,
    stretched,
    x_axis,
    y_axis,
)
from loraloom.report.charts import LOG_FROM

MOST_NAMES = 8
MOST_LETTERS = 14


@dataclass(frozen=True)
class Point:
    """One result.

    Args:
        x: a number, or a name; the same kind for all points of a chart.
        y: the result; None if there is none; a cross is then drawn at the edge where the worst results are.
        label: text of its tooltip.
        look: `best` has a ring; `weak` is hollow, for a trial that was stopped early.
    """

    x: float | str
    y: float | None
    label: str
    look: Literal["plain", "best", "weak"] = "plain"


def scatter_chart(
    points: Sequence[Point],
    *,
    label: str,
    log_x: bool = False,
    may_log_y: bool = False,
    higher_is_better: bool = True,
    is_joined: bool = False,
    level: tuple[float, str] | None = None,
    marks: Sequence[tuple[float, str]] = (),
) -> Markup:
    """Draw results by the values of a setting.

    Args:
        points: the results, in drawing order.
        label: description for screen readers.
        log_x: whether the x axis is logarithmic; all values must be above 0.
        may_log_y: whether the y axis is logarithmic if results are far apart (for losses, not for scores).
        higher_is_better: whether the worst results, and so the crosses, are at the bottom, not at the top.
        is_joined: whether a line connects the points.
        level: a value to compare with, and its name, drawn as a horizontal line.
        marks: values of x and their names, drawn as vertical lines.
    """
    outcomes = [point.y for point in points if point.y is not None]
    if not outcomes:
        return Markup("")
    y_scale = _y_scale([*outcomes, *([level[0]] if level else [])], may_log_y)
    x_places = _XPlaces(points, [value for value, _ in marks], log_x)
    parts: list[Markup] = [*y_axis(y_scale), *x_axis(x_places.ticks)]
    parts += [line for value, name in marks for line in _mark(x_places.place(value), name)]
    if level is not None:
        parts += _level(y_scale, *level)
    if is_joined:
        parts.append(_joined(points, x_places, y_scale))
    parts += [_drawn(point, x_places, y_scale, higher_is_better) for point in points]
    return element("svg", *parts, class_="plot small", role="img", aria_label=label)


def _y_scale(values: Sequence[float], may_log: bool) -> Scale:
    low, high = min(values), max(values)
    is_log = may_log and low > 0 and high / low > LOG_FROM
    return log_scale(low, high) if is_log else linear_scale(low, high)


class _XPlaces:
    """Positions and tick labels on the x axis, for numbers or names."""

    def __init__(self, points: Sequence[Point], more: Sequence[float], log_x: bool) -> None:
        self.names = [*dict.fromkeys(point.x for point in points if isinstance(point.x, str))]
        numbers = [point.x for point in points if not isinstance(point.x, str)] + [*more]
        self.scale = None
        if not self.names:
            self.scale = (log_scale if log_x else linear_scale)(min(numbers), max(numbers))

    def place(self, x: float | str) -> float:
        if self.scale is not None and not isinstance(x, str):
            return min(max(self.scale.place(x), 0.0), 1.0)
        return (self.names.index(str(x)) + 0.5) / len(self.names)

    @property
    def ticks(self) -> Iterable[tuple[float, str]]:
        if self.scale is not None:
            ticks = self.scale.ticks[:: -(-len(self.scale.ticks) // MOST_NAMES)]
            return [(self.scale.place(tick), self.scale.write(tick)) for tick in ticks]
        if len(self.names) > MOST_NAMES:
            return []  # each point shows its own
        return [(self.place(name), _shortened(name)) for name in self.names]


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def _mark(x: float, name: str) -> Iterable[Markup]:
    title = element("title", name)
    yield element("line", title, x1=position(x), x2=position(x), y1="0", y2="100%", class_="mark")


def _level(scale: Scale, value: float, name: str) -> Iterable[Markup]:
    y = position(1 - scale.place(value))
    yield element("line", x1="0", x2="100%", y1=y, y2=y, class_="level")
    yield element("text", name, x="100%", y=y, dy="-0.4em", class_="tick end")


def _joined(points: Sequence[Point], places: _XPlaces, scale: Scale) -> Markup:
    line = " ".join(on_box(places.place(p.x), scale.place(p.y)) for p in points if p.y is not None)
    return stretched(element("polyline", points=line, class_="line"))


def _drawn(point: Point, places: _XPlaces, scale: Scale, higher_is_better: bool) -> Markup:
    x, title = position(places.place(point.x)), element("title", point.label)
    if point.y is None:
        y = "100%" if higher_is_better else "0"
        return element("text", title, "×", x=x, y=y, dy="0.35em", class_="cross")
    place = {"cx": x, "cy": position(1 - scale.place(point.y))}
    dot = element("circle", title, r="4", class_=f"dot{' hollow' if point.look == 'weak' else ''}", **place)
    if point.look != "best":
        return dot
    return element("g", dot, element("circle", title, r="7.5", class_="ring", **place))

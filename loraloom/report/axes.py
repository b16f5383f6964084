"""Axes of a chart: their values, the positions of the ticks, and their labels.

A chart is inline SVG with positions in percent, so that text keeps its size at every width. There are no
style attributes, which the page's Content-Security-Policy forbids: colours are classes in its style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.text.units import is_plain, number

NUM_COLOURS = 8


@dataclass(frozen=True)
class Scale:
    """The scale of an axis: its range of values and its ticks."""

    low: float
    high: float
    ticks: list[float]
    is_log: bool

    def place(self, value: float) -> float:
        """Return a value's position: 0 at the low end, 1 at the high end."""
        if self.is_log:
            value = max(value, self.low)  # the end of a schedule is on the edge
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def write(self, value: float) -> str:
        """Format a tick's label; all labels of an axis have the same form, so they are easy to compare."""
        return number(value, with_power=not all(map(is_plain, self.ticks)))


def linear_scale(low: float, high: float) -> Scale:
    """Make a linear scale from the round number below `low` to the one above `high`."""
    if high - low < 1e-9 * max(abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    ticks = nice_ticks(low, high, 5)
    step = ticks[1] - ticks[0]
    return Scale(math.floor(low / step) * step, math.ceil(high / step) * step, ticks, is_log=False)


def log_scale(low: float, high: float) -> Scale:
    """Make a log scale from the power of ten below `low` (positive) to the one above `high`."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = math.ceil((last - first) / 6)
    ticks = [10.0**power for power in range(first, last + 1, step)]
    return Scale(10.0**first, 10.0**last, ticks, is_log=True)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """List roughly `about` evenly spaced round numbers that span the range from `low` to `high`."""
    rough = (high - low) / about
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [place * step for place in range(first, last + 1)]


def y_axis(scale: Scale) -> Iterable[Markup]:
    """Draw grid lines across the plot, with their values on the left."""
    for tick in scale.ticks:
        y = position(1 - scale.place(tick))
        yield element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid")
        yield element("text", scale.write(tick), x="-8", y=y, dy="0.35em", class_="tick y")


def x_axis(places: Iterable[tuple[float, str]]) -> Iterable[Markup]:
    """Draw labels under the plot.

    Args:
        places: pairs of a position, as a fraction of the plot's width, and a label.
    """
    for share, text in places:
        yield element("text", text, x=position(share), y="100%", dy="1.5em", class_="tick x")


def element(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """Build an SVG element, escaping text and attributes; a keyword `text_anchor` sets `text-anchor`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_shown(value))}"' for key, value in attributes.items()
    )
    inner = "".join(str(escape(_shown(child))) for child in children)
    return Markup(f"<{name}{given}>{inner}</{name}>")


def _shown(value: object) -> str:
    return (
        rendered(value) if isinstance(value, Message) else value if isinstance(value, Markup) else str(value)
    )


def stretched(*children: Markup) -> Markup:
    """Stretch a box of 1000 by 1000 units over the plot; use it only for lines, as it distorts shapes."""
    return element("svg", *children, viewBox="0 0 1000 1000", preserveAspectRatio="none", class_="stretched")


def on_box(x: float, y: float) -> str:
    """Format a point for `stretched`: fractions of the plot's width and height, from its lower left."""
    return f"{1000 * x:.1f},{1000 * (1 - y):.1f}"


def colour(number: int) -> str:
    """Return the CSS classes of an experiment's line: eight colours, then the same eight with dashes."""
    return f"c{number % NUM_COLOURS}" + (" dashed" if number // NUM_COLOURS % 2 else "")


def position(share: float) -> str:
    """Format a share of the plot's width or height as an SVG position."""
    return f"{100 * share:.2f}%"

"""Histograms of lengths, drawn like the other charts of the report."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from loraloom.report.axes import element, linear_scale, nice_ticks, position, x_axis, y_axis
from loraloom.text.units import number

NUM_BARS = 24


def histogram(values: Sequence[int], *, label: str) -> Markup:
    """Draw a histogram with bins of equal width, starting at 0.

    Args:
        values: lengths; if there are none, nothing is drawn.
        label: description for screen readers.
    """
    if not values:
        return Markup("")
    counts, width = bars(values)
    scale = linear_scale(0.0, float(max(counts)))
    top = width * len(counts)
    parts = [*y_axis(scale)]
    for place, count in enumerate(counts):
        height = scale.place(float(count))
        title = element("title", f"{number(place * width)}\u2013{number((place + 1) * width)}: {count:,}")
        parts.append(
            element(
                "rect",
                title,
                x=position((place + 0.08) / len(counts)),
                width=position(0.84 / len(counts)),
                y=position(1 - height),
                height=position(height),
                class_="fill",
            )
        )
    parts += x_axis((tick / top, number(tick)) for tick in nice_ticks(0, top, 5) if 0 <= tick <= top)
    return element("svg", *parts, class_="plot small", role="img", aria_label=label)


def bars(values: Sequence[int], most: int = NUM_BARS) -> tuple[list[int], int]:
    """Count values in at most `most` bins of equal width, starting at 0.

    Returns:
        The counts, and the width of a bin.

    >>> bars([1, 2, 3, 9], most=2)
    ([3, 1], 5)
    """
    width = max(1, -(-(max(values) + 1) // most))
    counts = [0] * (max(values) // width + 1)
    for value in values:
        counts[value // width] += 1
    return counts, width

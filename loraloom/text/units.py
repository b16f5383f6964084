"""Formatting numbers with their units: percentages, sizes, durations, counts and plain numbers.

Sizes are formatted with rich. No well-maintained library does the rest: humanize spells out durations ("2
hours and 10 minutes") or rounds them to one unit, formats counts in its own style, and has no percentages.
"""

from __future__ import annotations

import math
from typing import Any

from rich.filesize import pick_unit_and_suffix

from loraloom.text.message import Message

NONE = "–"  # shown instead of a missing figure
MINUS = "\u2212"  # as wide as a plus
_SIZES = ["bytes", "KiB", "MiB", "GiB", "TiB"]


def percent(share: float) -> str:
    """Format a fraction (1 is 100 %) to a tenth of a percent; below 1 %, to two significant digits.

    A nonzero fraction is never written as `0 %`, and a fraction below 1 never as `100 %`.

    >>> percent(0.5), percent(0.167), percent(0.00034), percent(0.9999)
    ('50 %', '16.7 %', '0.034 %', 'above 99.9 %')
    """
    value = 100 * share
    if 99.95 <= value < 100:
        return Message("above {share}", share="99.9 %")
    if value == 0 or abs(value) >= 1:
        text = f"{value:.1f}"
    elif abs(value) >= 1e-4:
        text = f"{value:.{1 - math.floor(math.log10(abs(value)))}f}"
    else:
        return f"{number(float(f'{value:.1e}'))} %"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %".replace("-", MINUS)


def size(num_bytes: float | None) -> str:
    """Format a number of bytes in powers of 1024, as torch reports memory; a dash for None.

    >>> size(2048), size(600 * 2**20), size(1.25 * 2**30)
    ('2.0 KiB', '600 MiB', '1.2 GiB')
    """
    if num_bytes is None:
        return NONE
    unit, suffix = pick_unit_and_suffix(int(num_bytes), _SIZES, 1024)
    if unit == 1:
        return Message("{num_bytes} bytes", num_bytes=f"{num_bytes:.0f}")
    value = num_bytes / unit
    return f"{value:.{1 if value < 10 else 0}f} {suffix}"


def duration(seconds: float | None) -> str:
    """Format a duration in its two largest units, omitting the smaller unit if it is 0; a dash for None.

    >>> duration(6.64), duration(45), duration(723), duration(7200)
    ('6.6 s', '45 s', '12 min 3 s', '2 h')
    """
    if seconds is None:
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (0 if hours else rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value)


def estimated_duration(seconds: float) -> str:
    """Format an estimated time, rounded to two significant digits: `40 s`, `12 min`, `2 h 10 min`."""
    return duration(max(1, float(f"{seconds:.2g}")))


def counted(number: int, noun: str, plural: str = "") -> Message:
    """Format a count with its noun, as a message whose singular and plural a catalogue can translate.

    Args:
        number: the count.
        noun: singular of the noun, as a literal, so that `make messages` finds it.
        plural: plural of the noun, if it is not the singular with an s.

    >>> counted(1, "row"), counted(1200, "row"), counted(2, "entry", "entries")
    ('1 row', '1,200 rows', '2 entries')
    """
    return Message.counting(f"{{count:,}} {noun}", f"{{count:,}} {plural or noun + 's'}", count=number)


def number(value: float, *, with_power: bool | None = None) -> str:
    """Format a number to six significant digits.

    Args:
        value: any number; settings, which users copy, are formatted by `setting`.
        with_power: whether to use a power of ten; None to use it if that is easier to read.

    >>> number(1200), number(0.5), number(1e7)
    ('1,200', '0.5', '1e7')
    """
    with_power = not is_plain(value) if with_power is None else with_power
    return (_with_power(value) if with_power else f"{value:,.6g}").replace("-", MINUS)


def is_plain(value: float) -> bool:
    """Return whether a number is easier to read without a power of ten."""
    return value == 0 or 1e-3 <= abs(value) < 1e6 or not math.isfinite(value)


def _with_power(value: float) -> str:
    """Format a number with a power of ten: `1.5e-6`."""
    if value == 0:
        return "0"
    mantissa, power = f"{value:.5e}".split("e")
    return f"{float(mantissa):g}e{int(power)}"


def figure(value: float | None, digits: int = 4) -> str:
    """Format a loss or another figure with a fixed number of decimals, for comparison; a dash for None."""
    return NONE if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int) -> str:
    """Format a figure with its sign, using a minus as wide as a plus; a figure rounded to 0 has no sign."""
    text = f"{abs(value):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    return f"{sign}{text}"


def setting(value: Any) -> str:
    """Format a setting's value as in a recipe: `q, v`, `1e-4`, `true`; a dash for None."""
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    if value is None or isinstance(value, bool):
        return {None: NONE, True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if is_plain(value) else _with_power(float(f"{value:.3e}"))
    return str(value)

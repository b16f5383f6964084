"""A prediction in words: the block that `train` and `search` print before their first step.

It is read from what provenance.json holds, so that a resumed run shows the plan it began with.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from loraloom.run.documents.prediction import Disk, Memory, Pace, Prediction

LABEL_WIDTH = 9
FEWEST_COLUMNS = 24
MANY = 4  # experiments of a wave that are named one by one
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def plan_lines(plan: Prediction, width: int) -> list[str]:
    """The plan, a paragraph a subject, none wider than `width` columns.

    Args:
        plan: what is predicted.
        width: of the terminal.
    """
    subjects = (
        ("trains", trains(plan.waves)),
        ("memory", memory(plan.memory)),
        ("time", pace(plan.pace)),
        ("disk", disk(plan.disk)),
    )
    room = max(FEWEST_COLUMNS, width) - LABEL_WIDTH
    return ["plan", *(line for label, text in subjects for line in _paragraph(label, text, room))]


def _paragraph(label: str, text: str, room: int) -> Iterator[str]:
    for number, line in enumerate(textwrap.wrap(text, room)):
        yield f"  {label if number == 0 else '':{LABEL_WIDTH - 2}}{line}"


def trains(waves: Sequence[Sequence[str]]) -> str:
    """Who trains together."""
    if len(waves) == 1:
        return _names(waves[0]) + (" together, in one wave" if len(waves[0]) > 1 else "")
    each = "; ".join(f"{number}. {_names(wave)}" for number, wave in enumerate(waves, start=1))
    return f"in {len(waves)} waves, because memory does not hold all at once: {each}"


def memory(values: Memory) -> str:
    """The peak, its largest parts, and what is free."""
    parts = ", ".join(f"{name} {size(num)}" for name, num in values.parts.items() if num)
    return (
        f"{size(values.peak_bytes)} at the peak: {size(values.loaded_bytes)} loaded already "
        f"(base {size(values.base_bytes)}) and {size(values.needed_bytes)} more for {values.phase} ({parts})"
        f"; {size(values.free_bytes)} free"
    )


def pace(values: Pace | None) -> str:
    """How long the steps take."""
    if values is None:
        return "not known: stopped before a step was timed"
    return (
        f"about {duration(values.seconds)} of steps ({duration(values.epoch_seconds)} an epoch), "
        "by one timed step; evaluations come on top"
    )


def disk(values: Disk) -> str:
    """What checkpoints take."""
    return (
        f"{size(values.checkpoint_bytes)} a checkpoint at the most, {values.num_kept} kept; "
        f"{size(values.free_bytes)} free"
    )


def size(num_bytes: float) -> str:
    """Bytes as people write them: `1.4 GiB`."""
    power = 0
    while num_bytes >= 1024 and power < len(UNITS) - 1:
        num_bytes /= 1024
        power += 1
    return f"{num_bytes:.1f} {UNITS[power]}" if power > 2 else f"{num_bytes:.0f} {UNITS[power]}"


def duration(seconds: float) -> str:
    """A time as people say it, to two digits or so: `40 s`, `12 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def _names(wave: Sequence[str]) -> str:
    shown = ", ".join(wave[:MANY])
    return shown if len(wave) <= MANY else f"{shown} and {len(wave) - MANY} more"

"""The plan of a run as text: the predictions that `train` and `search` print before their first step.

The text is generated from the contents of provenance.json, so that a resumed run shows the plan it started
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import set_cell_size
from rich.text import Text

from loraloom.checks.resources import describe_pace, memory_parts
from loraloom.console.wrapping import wrapped
from loraloom.run.documents.prediction import Disk, Memory, Prediction, Traffic
from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message, joined
from loraloom.text.units import size

LABEL_WIDTH = 9
FEWEST_COLUMNS = 24
MANY = 4  # maximum number of experiments of a wave that are named


def plan_lines(plan: Prediction, width: int) -> list[str]:
    """Format the plan with one paragraph per subject, at most `width` columns wide.

    Args:
        plan: the prediction.
        width: width of the terminal, in columns.
    """
    subjects = (
        (Message("trains"), trains(plan.waves)),
        (Message("memory"), memory(plan.memory)),
        (Message("time"), describe_pace(plan.pace)),
        (Message("disk"), disk(plan.disk)),
        *([] if plan.traffic is None else [(Message("ranks"), ranks(plan.traffic))]),
    )
    room = max(FEWEST_COLUMNS, width) - LABEL_WIDTH
    return [
        rendered(Message("plan")),
        *(line for label, text in subjects for line in _paragraph(label, text, room)),
    ]


def _paragraph(label: str, text: str, room: int) -> Iterator[str]:
    for number, line in enumerate(wrapped(Text(rendered(text)), room)):
        yield f"  {set_cell_size(rendered(label) if number == 0 else '', LABEL_WIDTH - 2)}{line.plain}"


def trains(waves: Sequence[Sequence[str]]) -> str:
    """Describe which experiments train together."""
    if len(waves) == 1:
        names = _names(waves[0])
        return names if len(waves[0]) == 1 else Message("{names} together, in one wave", names=names)
    each = joined(
        "; ",
        (
            Message("{number}. {names}", number=number, names=_names(wave))
            for number, wave in enumerate(waves, start=1)
        ),
    )
    return Message(
        "in {num_waves} waves, because not all experiments fit in memory at once: {each}",
        num_waves=len(waves),
        each=each,
    )


def memory(values: Memory) -> str:
    """Describe the peak memory, its largest parts, and the free memory."""
    return Message(
        "{peak_bytes} at the peak: {loaded_bytes} already loaded (base {base_bytes}) and "
        "{needed_bytes} more for {phase} ({parts}); {free_bytes} free",
        peak_bytes=size(values.peak_bytes),
        loaded_bytes=size(values.loaded_bytes),
        base_bytes=size(values.base_bytes),
        needed_bytes=size(values.needed_bytes),
        phase=shown_word(values.phase),
        parts=memory_parts(values.parts),
        free_bytes=size(values.free_bytes),
    )


def disk(values: Disk) -> str:
    """Describe the size and number of checkpoints, and the free disk space."""
    return Message(
        "at most {checkpoint_bytes} per checkpoint, {num_kept} kept; {free_bytes} free",
        checkpoint_bytes=size(values.checkpoint_bytes),
        num_kept=values.num_kept,
        free_bytes=size(values.free_bytes),
    )


def ranks(values: Traffic) -> str:
    """Describe how many ranks there are, and how much data they exchange."""
    said = Message(
        "{num_ranks} processes; {reduced_bytes} of gradients summed per step",
        num_ranks=values.num_ranks,
        reduced_bytes=size(values.reduced_bytes),
    )
    if not values.gathered_bytes:
        return said
    gathered = size(values.gathered_bytes)
    return Message(
        "{said}; {gathered} of weights gathered per pass",
        said=said,
        gathered=gathered,
    )


def _names(wave: Sequence[str]) -> str:
    shown = ", ".join(wave[:MANY])
    return (
        shown
        if len(wave) <= MANY
        else Message("{shown} and {num_wave} more", shown=shown, num_wave=len(wave) - MANY)
    )

"""Whether machine and disk hold what training will take, and how long it takes."""

from __future__ import annotations

from loraloom.checks.finding import Finding
from loraloom.run.documents.prediction import Disk, Memory, Pace, Prediction
from loraloom.text.units import estimated_duration, size

CHECKPOINTS_TO_FIT = 3
# Less is left to the system and to what was not foreseen.
TIGHT = 0.9
LESS_MEMORY = (
    "Halve training.per_device_train_batch_size and double training.gradient_accumulation_steps (the same "
    "training), or set training.gradient_checkpointing: true."
)


def check_resources(prediction: Prediction) -> list[Finding]:
    """Memory against what is free, room for three checkpoints, and the time of the steps."""
    return [
        check_memory(prediction.memory, num_waves=len(prediction.waves)),
        check_disk(prediction.disk),
        Finding("ok", "time", "training", describe_pace(prediction.pace)),
    ]


def check_memory(memory: Memory, *, num_waves: int = 1) -> Finding:
    """The predicted peak against what is free; training may try all the same.

    Args:
        memory: predicted.
        num_waves: more than one where experiments already take turns.
    """
    largest = ", ".join(f"{name} {size(num)}" for name, num in list(memory.parts.items())[:3])
    needed, free = size(memory.needed_bytes), size(memory.free_bytes)
    message = (
        f"{memory.phase} takes {needed} beside the {size(memory.loaded_bytes)} loaded; "
        f"the largest parts: {largest}; {free} free"
    )
    if memory.needed_bytes > memory.free_bytes:
        turns = " Experiments take turns already." if num_waves > 1 else ""
        message = f"training will probably run out of memory: {message}"
        return Finding("warning", "memory", "training", message, f"{LESS_MEMORY}{turns}")
    if memory.needed_bytes > TIGHT * memory.free_bytes:
        return Finding("warning", "memory", "training", f"memory will be tight: {message}", LESS_MEMORY)
    peak = size(memory.peak_bytes)
    return Finding("ok", "memory", "training", f"{peak} at the peak: {message}")


def check_disk(disk: Disk) -> Finding:
    """Room for three checkpoints: two that are kept and one being written."""
    one, free = size(disk.checkpoint_bytes), size(disk.free_bytes)
    if disk.free_bytes < CHECKPOINTS_TO_FIT * disk.checkpoint_bytes:
        message = f"there is no room for {CHECKPOINTS_TO_FIT} checkpoints of {one}: {free} free"
        return Finding("error", "disk", "training", message, "Make room, or choose another --out.")
    return Finding("ok", "disk", "training", f"a checkpoint takes {one} at the most; {free} free")


def describe_pace(pace: Pace | None) -> str:
    """How long the steps take; None if no step was timed."""
    if pace is None:
        return "not known: stopped before a step was timed"
    steps, epoch = estimated_duration(pace.seconds), estimated_duration(pace.epoch_seconds)
    return f"about {steps} of steps ({epoch} an epoch), by one timed step; evaluations come on top"

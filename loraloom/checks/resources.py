"""Checks that memory and disk space suffice for training, and an estimate of how long it will take."""

from __future__ import annotations

from collections.abc import Mapping

from loraloom.checks.finding import Finding
from loraloom.run.documents.prediction import Disk, Memory, Pace, Prediction
from loraloom.run.documents.words import shown_word
from loraloom.text.message import Message, joined
from loraloom.text.units import estimated_duration, size

CHECKPOINTS_TO_FIT = 3
# Share of free memory; the rest is left for the system and for errors of the prediction.
TIGHT = 0.9
LESS_MEMORY = Message(
    "Halve training.per_device_train_batch_size and double "
    "training.gradient_accumulation_steps, which does not change the training, or set "
    "training.gradient_checkpointing: true."
)


def check_resources(prediction: Prediction) -> list[Finding]:
    """Check that enough memory and disk space are free for training; report how long the steps will take."""
    return [
        check_memory(prediction.memory, num_waves=len(prediction.waves)),
        check_disk(prediction.disk),
        Finding("ok", "time", "training", describe_pace(prediction.pace)),
    ]


def memory_parts(parts: Mapping[str, int]) -> str:
    """Format the parts that take memory: `activations 29 MiB, adapters 13 MiB`.

    Args:
        parts: bytes by name, the largest first.
    """
    return joined(
        ", ",
        (
            Message("{part} {num_bytes}", part=shown_word(name), num_bytes=size(num))
            for name, num in parts.items()
            if num
        ),
    )


def check_memory(memory: Memory, *, num_waves: int = 1) -> Finding:
    """Warn if training may need more memory than is free; this never stops training.

    Args:
        memory: predicted memory.
        num_waves: number of waves; if it is more than 1, experiments already take turns.
    """
    largest = memory_parts(dict(list(memory.parts.items())[:3]))
    needed, free = size(memory.needed_bytes), size(memory.free_bytes)
    message = Message(
        "{phase} takes {needed} in addition to {loaded_bytes} already loaded; largest parts: "
        "{largest}; {free} free",
        phase=shown_word(memory.phase),
        needed=needed,
        loaded_bytes=size(memory.loaded_bytes),
        largest=largest,
        free=free,
    )
    if memory.pass_limit is not None:
        message = Message(
            "{message}; a whole micro-batch does not fit, so it is computed in passes of at most "
            "{pass_limit:,} tokens, which does not change the training",
            message=message,
            pass_limit=memory.pass_limit,
        )
    if memory.needed_bytes > memory.free_bytes:
        turns = Message(" Experiments already take turns.") if num_waves > 1 else ""
        message = Message("training will probably run out of memory: {message}", message=message)
        return Finding(
            "warning",
            "memory",
            "training",
            message,
            Message("{less_memory}{turns}", less_memory=LESS_MEMORY, turns=turns),
        )
    if memory.needed_bytes > TIGHT * memory.free_bytes:
        return Finding(
            "warning",
            "memory",
            "training",
            Message("memory will be tight: {message}", message=message),
            LESS_MEMORY,
        )
    peak = size(memory.peak_bytes)
    return Finding(
        "ok", "memory", "training", Message("{peak} at the peak: {message}", peak=peak, message=message)
    )


def check_disk(disk: Disk) -> Finding:
    """Check that three checkpoints fit on the disk: two that are kept and one that is being written."""
    one, free = size(disk.checkpoint_bytes), size(disk.free_bytes)
    if disk.free_bytes < CHECKPOINTS_TO_FIT * disk.checkpoint_bytes:
        message = Message(
            "there is not enough space for {checkpoints_to_fit} checkpoints of {one}: {free} free",
            checkpoints_to_fit=CHECKPOINTS_TO_FIT,
            one=one,
            free=free,
        )
        return Finding(
            "error", "disk", "training", message, Message("Free some space, or choose another `--out`.")
        )
    return Finding(
        "ok", "disk", "training", Message("a checkpoint takes at most {one}; {free} free", one=one, free=free)
    )


def describe_pace(pace: Pace | None) -> str:
    """Describe how long the training steps will take; `pace` is None if no step was timed."""
    if pace is None:
        return Message("unknown, because no step was timed before the run was stopped")
    steps, epoch = estimated_duration(pace.seconds), estimated_duration(pace.epoch_seconds)
    return Message(
        "about {steps} for the steps ({epoch} per epoch), estimated from one timed step, without evaluations",
        steps=steps,
        epoch=epoch,
    )

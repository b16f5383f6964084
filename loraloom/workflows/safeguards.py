"""What a long job must not fail on without a word: no room on the disk, no room in memory."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loraloom.errors import RunError, TrainingError
from loraloom.run import Run

CHECKPOINTS_TO_FIT = 3


def check_disk(run: Run, size: int) -> None:
    """Refuse to begin what could not be saved.

    Raises:
        RunError: there is no room for three checkpoints (two that are kept and one being written).
    """
    free = shutil.disk_usage(run.folder).free
    if free < CHECKPOINTS_TO_FIT * size:
        raise RunError(
            f"there is no room for {CHECKPOINTS_TO_FIT} checkpoints",
            where=str(run.folder),
            found=f"{free / 2**20:.0f} MiB free",
            allowed=f"at least {CHECKPOINTS_TO_FIT * size / 2**20:.0f} MiB",
            fix="Make room, or choose another --out.",
        )


@contextmanager
def memory_errors_explained(run: Run) -> Iterator[None]:
    """Out of memory is the user's setting to change, not a bug to trace."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator raises it bare
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise TrainingError(
            "there is not enough memory for a step; checkpoints are as they were",
            where=str(run.folder),
            fix="Halve training.per_device_train_batch_size and double training.gradient_accumulation_steps "
            "(the same training), or set training.gradient_checkpointing: true.",
        ) from None

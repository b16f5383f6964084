"""What a long job must not fail on without a word: no room on disk or in memory, a device that is lost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loraloom.checks.resources import check_disk
from loraloom.errors import RunError, TrainingError
from loraloom.forecast.prediction import predict_disk
from loraloom.run.folder import Run
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.setup import Setup


def check_room(setup: Setup) -> None:
    """Refuse to begin what could not be saved.

    Raises:
        RunError: the disk has no room for checkpoints.
    """
    finding = check_disk(predict_disk(setup))
    if finding.level == "error":
        raise RunError(finding.message, where=str(setup.run.folder), fix=finding.fix)


@contextmanager
def device_errors_explained(run: Run) -> Iterator[None]:
    """What the machine refuses is no bug to trace: out of memory, or a device that is lost.

    A pass or an evaluation that does not fit is made smaller by `training/memory.py`.
    This is for the rest.

    Raises:
        TrainingError: memory ran out, or the device failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
            resume = f"loraloom train --resume {shlex.quote(str(run.folder))}"
            raise TrainingError(
                "the device failed in the middle of training; checkpoints are as they were",
                where=str(run.folder),
                found=str(error).partition("\n")[0],
                fix=f"When the device works again, `{resume}` goes on.",
            ) from None
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "there is not enough memory for the adapters and their optimizers; checkpoints are as they were",
            where=str(run.folder),
            fix="Train fewer experiments at a time, lower lora.r, or set dtype: bfloat16.",
        ) from None

"""Readable errors for when a machine cannot continue: a full disk, too little memory, or a failing device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from loraloom.checks.resources import check_disk
from loraloom.errors import RunError, TrainingError
from loraloom.forecast.prediction import predict_disk
from loraloom.run.folder import Run
from loraloom.run.resuming import how_to_resume
from loraloom.text.message import Message
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.setup import Setup


def check_room(setup: Setup) -> None:
    """Refuse to start training if its checkpoints would not fit on the disk.

    Raises:
        RunError: there is too little space for checkpoints.
    """
    finding = check_disk(predict_disk(setup))
    if finding.level == "error":
        raise RunError(finding.message, where=str(setup.run.folder), fix=finding.fix)


@contextmanager
def device_errors_explained(run: Run, remedy: str = "") -> Iterator[None]:
    """Raise a clear error if memory runs out or the device fails, instead of torch's traceback.

    Training already makes passes and evaluations smaller if they do not fit (`training/memory.py`); this is
    for everything else, such as the optimizer states.

    Args:
        run: the run that is training.
        remedy: what to do once the device works again; by default, resume the run.

    Raises:
        TrainingError: memory ran out, or the device failed.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error):
            remedy = remedy or how_to_resume(run)
            raise TrainingError(
                Message("the device failed during training; existing checkpoints are unchanged"),
                where=str(run.folder),
                found=str(error).partition("\n")[0],
                fix=Message("When the device works again, {remedy}.", remedy=remedy),
            ) from None
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            Message(
                "the adapters and their optimizers do not fit in memory; existing checkpoints are unchanged"
            ),
            where=str(run.folder),
            fix=Message("Train fewer experiments at a time, lower lora.r, or set dtype: bfloat16."),
        ) from None

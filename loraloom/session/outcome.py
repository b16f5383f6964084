"""The outcome of a run, as result.json contains it."""

from __future__ import annotations

from collections.abc import Mapping

from loraloom.base.available_memory import peak_process_bytes
from loraloom.run.documents.result import ExperimentResult, Result
from loraloom.training.state import Progress


def experiment_outcome(progress: Progress) -> ExperimentResult:
    """Describe how an experiment ended."""
    outcome = ExperimentResult(
        status=progress.status,
        step=progress.step,
        reason=progress.reason,
        best_step=progress.best_step,
        best_metric=progress.best_metric,
        forgetting=progress.forgetting,
        retain_loss=progress.retain_loss,
    )
    return outcome.model_copy(update={"retain_pairs": progress.retain_pairs} if progress.retain_pairs else {})


def run_outcome(experiments: Mapping[str, ExperimentResult], num_steps: int, seconds: float) -> Result:
    """Describe how a run ended, and how long it took.

    Args:
        experiments: the outcome of each experiment.
        num_steps: steps of the whole run.
        seconds: time since its command started.
    """
    return Result(
        experiments=dict(experiments),
        steps=num_steps,
        wall_seconds=round(seconds, 2),
        peak_bytes=peak_process_bytes(),
    )

"""The outcome of a run, as result.json contains it and as `train` returns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loraloom.base.available_memory import peak_process_bytes
from loraloom.errors import TrainingError
from loraloom.run.documents.result import ExperimentResult, Result
from loraloom.run.folder import Run
from loraloom.text.message import Message, joined
from loraloom.training.state import Progress


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Args:
        run: the run directory.
        result: content of result.json: how each experiment ended, and the resources that the run used.
    """

    run: Run
    result: Result

    @property
    def failed(self) -> list[str]:
        """Names of the experiments that failed."""
        return self.result.failed


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
        num_steps: number of steps of the whole run.
        seconds: time since its command started.
    """
    return Result(
        experiments=dict(experiments),
        steps=num_steps,
        wall_seconds=round(seconds, 2),
        peak_bytes=peak_process_bytes(),
    )


def outcome_of(run: Run) -> Outcome:
    """Return the outcome of a finished run.

    Raises:
        TrainingError: every experiment failed.
    """
    outcome = Outcome(run, Result.read(run.result_file))
    entries = outcome.result.experiments
    if len(outcome.failed) == len(entries):
        raise TrainingError(
            joined(
                "; ",
                (
                    Message("{name}: {reason}", name=name, reason=entries[name].reason)
                    for name in outcome.failed
                ),
            ),
            where=str(run.folder),
            fix=Message("Lower the learning rate, or set dtype: float32."),
        )
    return outcome

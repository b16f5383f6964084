"""How a finished run ended, as `train` returns it."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.errors import TrainingError
from loraloom.run.documents.result import Result
from loraloom.run.folder import Run
from loraloom.text.message import Message, joined


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Args:
        run: the run directory.
        result: content of result.json: how each experiment ended, and what the run took.
    """

    run: Run
    result: Result

    @property
    def failed(self) -> list[str]:
        """Names of the experiments that failed."""
        return self.result.failed


def outcome_of(run: Run) -> Outcome:
    """Return how a finished run ended.

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

"""result.json: how a run ended; the file exists only if the run has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import ConfigDict

from loraloom.run.documents.document import Document, Integer, Part, Text


@dataclass(frozen=True)
class RetainLoss:
    """The loss on rows of `data.retain`, in nats per token.

    Args:
        loss: loss with the adapter.
        forgetting: increase over the base's loss.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    loss: float
    forgetting: float

    @classmethod
    def of(cls, loss: float, base_loss: float) -> Self:
        """Compare an adapter's loss with the base's."""
        return cls(loss, loss - base_loss)


class ExperimentResult(Part):
    """How an experiment, or a trial of a search, ended.

    Args:
        status: `done`, `stopped` (early) or `failed`.
        step: number of optimizer steps taken.
        reason: why it ended, if it did not simply finish.
        best_step, best_metric: step and metric of its adapter; None if it was never evaluated.
        forgetting: increase of the loss on `data.retain`, in nats per token; None if not measured.
        retain_loss: the loss on `data.retain` with the adapter.
        retain_pairs: loss and its increase by language pair; None if the base has no languages.
        movement: ‖ΔW‖ / ‖W‖ over all adapted linears; None if the experiment failed.
    """

    status: str
    step: Integer
    reason: Text
    best_step: Integer | None
    best_metric: float | None
    forgetting: float | None
    retain_loss: float | None = None
    retain_pairs: dict[str, RetainLoss] | None = None
    movement: float | None = None


class Result(Document):
    """How a run ended.

    Args:
        experiments: results by name.
        steps: number of steps of the whole run.
        wall_seconds: duration of the command that finished the run.
        peak_bytes: peak memory of the process.
    """

    experiments: dict[str, ExperimentResult]
    steps: Integer
    wall_seconds: float
    peak_bytes: Integer

    @property
    def failed(self) -> list[str]:
        """The experiments that failed."""
        return [name for name, entry in self.experiments.items() if entry.status == "failed"]

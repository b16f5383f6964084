"""Events of a run's history, each a line of events.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from loraloom.run.documents.document import JsonObject, Text
from loraloom.run.documents.result import RetainLoss
from loraloom.run.events.event import Event

Limit = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class TrainStep(Event):
    """An experiment took an optimizer step.

    Args:
        step: step of the run, counted once for all experiments that train together.
        experiment: name of the experiment.
        experiment_step, total_steps: number of the experiment's own steps, taken so far and planned.
        epoch: number of passes over its rows so far.
        loss: nats per label token, over the rows of this step.
        learning_rate: learning rate of this step.
        grad_norm: norm of the gradient before clipping.
        num_tokens: source and target tokens of this step.
        tokens_per_second: tokens of this experiment per second, over the duration of the whole step.
    """

    kind: ClassVar[str] = "train"

    step: int
    experiment: str
    experiment_step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    num_tokens: int
    tokens_per_second: float


@dataclass(frozen=True, kw_only=True)
class Evaluation(Event):
    """An experiment was evaluated on the eval rows.

    Args:
        step, experiment, experiment_step, epoch: as in `TrainStep`.
        figures: `eval_loss`, and what `metric_for_best_model` requires; each has a key of its own in the log.
    """

    kind: ClassVar[str] = "eval"

    step: int
    experiment: str
    experiment_step: int
    epoch: float
    figures: Mapping[str, float]

    def to_json(self) -> JsonObject:
        """Return the event as JSON, with each figure under its name."""
        line = super().to_json()
        del line["figures"]
        return line | dict(self.figures)

    @classmethod
    def _arguments(cls, line: Mapping[str, Any]) -> JsonObject:
        own = {"step", "experiment", "experiment_step", "epoch", "time"}
        known = {key: line[key] for key in own if key in line}
        others = line.keys() - own - {"event", "version"}
        return known | {"figures": {key: line[key] for key in line if key in others}}


@dataclass(frozen=True, kw_only=True)
class ExperimentEnd(Event):
    """An experiment takes no more steps.

    Args:
        step, experiment, experiment_step: as in `TrainStep`.
        status: `done`, `stopped` (early), `pruned` (by a search) or `failed`.
        reason: why it ended, unless it simply finished.
        best_step, best_metric: step and metric of its adapter; None if it was never evaluated.
        forgetting: increase of its loss on `data.retain` over the base's; None if not measured.
        retain_pairs: language pair → loss and increase on its rows; empty if the base has no languages.
    """

    kind: ClassVar[str] = "end"

    step: int
    experiment: str
    experiment_step: int
    status: str
    reason: Text
    best_step: int | None
    best_metric: float | None
    forgetting: float | None
    retain_pairs: Mapping[str, RetainLoss] = field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Return the event as JSON, without `retain_pairs` if it is empty."""
        line = super().to_json()
        if not self.retain_pairs:
            del line["retain_pairs"]
        return line


@dataclass(frozen=True, kw_only=True)
class CheckpointSave(Event):
    """A checkpoint was written; this event's line ends with the sha256 of the log so far (run/integrity.py).

    Args:
        step: step of the run.
        path: the checkpoint's folder, below `checkpoints/`.
    """

    kind: ClassVar[str] = "save"
    is_durable: ClassVar[bool] = True

    step: int
    path: str


@dataclass(frozen=True, kw_only=True)
class MemoryLimit(Event):
    """Memory ran out, and the run uses smaller batches from now on.

    Args:
        step: first step of the run with the new limits.
        phase: the work that ran out of memory, `training` or `evaluation`; `lifted` if an experiment failed
            and earlier limits no longer apply.
        experiment: the experiment that failed; None if none did.
        tried: number of tokens in a pass, or of rows in a batch, for which memory did not suffice.
        pass_tokens, eval_rows: the new limits; None for no limit.
    """

    kind: ClassVar[str] = "memory"
    is_durable: ClassVar[bool] = True

    step: int
    phase: Literal["training", "evaluation", "lifted"]
    experiment: str | None = None
    tried: int
    pass_tokens: Limit | None
    eval_rows: Limit | None

    def to_json(self) -> JsonObject:
        """Return the event as JSON, without an experiment if none failed."""
        line = super().to_json()
        if self.experiment is None:
            del line["experiment"]
        return line


@dataclass(frozen=True, kw_only=True)
class Resume(Event):
    """A run is resumed.

    Args:
        step: step of the run after which it continues.
        reason: why it continues there.
    """

    kind: ClassVar[str] = "resume"

    step: int
    reason: Text


@dataclass(frozen=True, kw_only=True)
class FileChange(Event):
    """A file has changed since the run wrote it.

    Args:
        path: its path in the run.
        what: what the run does about the change.
    """

    kind: ClassVar[str] = "changed"

    path: str
    what: Text


@dataclass(frozen=True, kw_only=True)
class CheckpointDamage(Event):
    """A checkpoint cannot be used.

    Args:
        path: its folder, below `checkpoints/`.
        problem: what is wrong with it.
    """

    kind: ClassVar[str] = "damaged"

    path: str
    problem: Text


@dataclass(frozen=True, kw_only=True)
class AdapterExport(Event):
    """An adapter is written again at the end of a resumed run.

    Args:
        experiment: the experiment that the adapter belongs to.
        reason: why it is written again.
    """

    kind: ClassVar[str] = "export"

    experiment: str
    reason: Text


@dataclass(frozen=True, kw_only=True)
class TrialStart(Event):
    """A search drew a trial.

    Args:
        experiment: the trial's name.
        parameters: dotted key → value.
    """

    kind: ClassVar[str] = "trial"

    experiment: str
    parameters: Mapping[str, Any]

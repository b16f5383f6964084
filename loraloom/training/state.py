"""Where a training stands, between two steps: all that a checkpoint holds and a resume needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from loraloom.bank.ownership import seed_for
from loraloom.data.batches import epoch_order
from loraloom.recipe import Experiment
from loraloom.run.events import Event, MemoryLimit

Moment = Literal["eval", "save"]
Status = Literal["waiting", "training", "done", "stopped", "failed"]
ENDED: frozenset[Status] = frozenset({"done", "stopped", "failed"})


@dataclass
class Progress:
    """Where one experiment stands.

    Args:
        status: `stopped` is early stopping; `failed` leaves the others training.
        step: optimizer steps taken; the next one's number, from 0.
        reason: why it ended, where it did not simply finish.
        best_step, best_metric: of the checkpoint that becomes the adapter.
        evaluations_without_improvement: for early stopping.
        forgetting: by how much the loss on `data.retain` rose, in nats a token, once it has ended.
        retain_loss: what it rose to.
    """

    status: Status = "waiting"
    step: int = 0
    reason: str = ""
    best_step: int | None = None
    best_metric: float | None = None
    evaluations_without_improvement: int = 0
    forgetting: float | None = None
    retain_loss: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more steps."""
        return self.status in ENDED

    def fail(self, reason: str) -> None:
        """It takes no more steps, and what it has learnt is no result."""
        self.status, self.reason = "failed", reason


@dataclass
class SlotTensors:
    """What one experiment has learnt, on the CPU when read from a checkpoint.

    Args:
        current: its adapter, while it trains.
        optimizer: its optimizer's state, while it trains.
        best: the adapter of its best evaluation so far.
    """

    current: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """What may be computed at once since memory ran out; None while it has not.

    Args:
        pass_tokens: source and target tokens of one training pass.
        eval_rows: rows of one batch of an evaluation, those of all its adapters together.
    """

    pass_tokens: int | None = None
    eval_rows: int | None = None

    def narrowed(self, other: Limits) -> Limits:
        """The narrower of both in each."""
        return Limits(_least(self.pass_tokens, other.pass_tokens), _least(self.eval_rows, other.eval_rows))


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass
class TrainingState:
    """The whole training between two ticks.

    Args:
        tick: steps of the run, waves included; one tick is one step of every experiment in it.
        progress, tensors: of each experiment.
        limits: what the steps from each of these on may compute at once. They decide the order of sums,
            and so the last bits: a resume goes by them.
        unfinished: who is still to be evaluated after this tick, or to leave; a signal came between.
    """

    tick: int
    progress: dict[str, Progress]
    tensors: dict[str, SlotTensors]
    limits: dict[int, Limits] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    @classmethod
    def at_start(cls, names: list[str]) -> TrainingState:
        """Before the first step."""
        return cls(0, {name: Progress() for name in names}, {name: SlotTensors() for name in names})

    @property
    def has_ended(self) -> bool:
        """Whether no experiment takes another step."""
        return all(progress.has_ended for progress in self.progress.values())

    def limits_at(self, step: int) -> Limits:
        """What a step of the run, counted from 1, and the evaluation after it may compute at once."""
        limits = Limits()
        for since, own in self.limits.items():
            if since <= step:
                limits = limits.narrowed(own)
        return limits

    def narrow(self, step: int, limits: Limits) -> Limits:
        """Compute no more than this at once from a step on; what is then the limit."""
        self.limits[step] = self.limits_at(step).narrowed(limits)
        return self.limits[step]

    def lift(self, step: int) -> None:
        """Take back what limits a step's passes set: they were one experiment's fault, which has left."""
        own = self.limits.pop(step, Limits())
        if own.eval_rows is not None:
            self.limits[step] = Limits(eval_rows=own.eval_rows)

    def replay(self, events: Iterable[Event]) -> None:
        """Take over the limits that a run's log has, those of steps that are taken again included."""
        for event in events:
            if not isinstance(event, MemoryLimit):
                continue
            if event.phase == "lifted":
                self.lift(event.step)
            else:
                self.narrow(event.step, Limits(event.pass_tokens, event.eval_rows))


@dataclass(frozen=True)
class Timetable:
    """When an experiment sees which rows; a function of its own settings and nothing else.

    Args:
        experiment: its settings.
        num_examples: training rows.

    Source: the counting of transformers' Trainer; the last step of an epoch may be a smaller one.
    """

    experiment: Experiment
    num_examples: int

    @property
    def examples_per_step(self) -> int:
        """Rows of a full optimizer step."""
        training = self.experiment.training
        return training.per_device_train_batch_size * training.gradient_accumulation_steps

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass over the rows."""
        return math.ceil(self.num_examples / self.examples_per_step)

    @property
    def total_steps(self) -> int:
        """Optimizer steps in all."""
        training = self.experiment.training
        by_epochs = math.ceil(training.num_train_epochs * self.steps_per_epoch)
        return by_epochs if training.max_steps is None else training.max_steps

    def micro_batches(self, step: int) -> list[list[int]]:
        """The rows of a step, by micro-batch."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.num_examples, seed_for(self.experiment.seed, "order", epoch))
        rows = order[number * self.examples_per_step : (number + 1) * self.examples_per_step].tolist()
        size = self.experiment.training.per_device_train_batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def is_due(self, what: Moment, steps_taken: int) -> bool:
        """Whether to evaluate or save after so many steps; the last step always counts."""
        training = self.experiment.training
        strategy = getattr(training, f"{what}_strategy")
        if strategy == "no":
            return False
        every = self.steps_per_epoch if strategy == "epoch" else getattr(training, f"{what}_steps")
        return bool(steps_taken % every == 0 or steps_taken == self.total_steps)

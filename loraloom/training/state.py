"""The state of training between two steps: the content of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal

from torch import Tensor

from loraloom.run.documents.result import RetainLoss
from loraloom.run.events import Event, MemoryLimit

Status = Literal["waiting", "training", "done", "stopped", "failed"]
ENDED: frozenset[Status] = frozenset({"done", "stopped", "failed"})


@dataclass
class Progress:
    """The progress of one experiment.

    Args:
        status: `stopped` means ended by early stopping; `failed` does not affect other experiments.
        step: number of optimizer steps taken; the next step has this number, counted from 0.
        reason: why it ended, if it did not simply finish.
        best_step, best_metric: step and metric of the evaluation whose adapter is the best so far.
        evaluations_without_improvement: number of evaluations since the last improvement, for early stopping.
        forgetting: increase in the loss on `data.retain` over that of the base, in nats per token, measured
            when the experiment ends; None if it was not measured.
        retain_loss: loss on `data.retain` with the adapter, in nats per token; None if it was not measured.
        retain_pairs: loss on `data.retain`, and its increase over that of the base, for each language pair.
    """

    status: Status = "waiting"
    step: int = 0
    reason: str = ""
    best_step: int | None = None
    best_metric: float | None = None
    evaluations_without_improvement: int = 0
    forgetting: float | None = None
    retain_loss: float | None = None
    retain_pairs: dict[str, RetainLoss] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether the experiment takes no more steps."""
        return self.status in ENDED

    def fail(self, reason: str) -> None:
        """End the experiment as failed: it takes no more steps, and its adapter is not a result."""
        self.status, self.reason = "failed", reason


@dataclass
class SlotTensors:
    """The tensors of one experiment; on the CPU if they were read from a checkpoint.

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
    """Limits on how much is computed at once, set after memory ran out; None for no limit.

    Args:
        pass_tokens: maximum number of source and target tokens of one training pass.
        eval_rows: maximum number of rows in one evaluation batch, over all adapters together.
    """

    pass_tokens: int | None = None
    eval_rows: int | None = None

    def narrowed(self, other: Limits) -> Limits:
        """Combine these limits with others: of each kind, the lower one applies."""
        return Limits(_least(self.pass_tokens, other.pass_tokens), _least(self.eval_rows, other.eval_rows))


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


@dataclass
class TrainingState:
    """The complete state of training between two steps.

    Args:
        tick: number of steps of the run, over all waves; each is one optimizer step of every experiment
            that was training.
        progress, tensors: progress and tensors of each experiment.
        limits: step of the run → limits that apply from it on. They determine the order in which sums are
            computed, and thus the last bits of the results, so a resumed run applies them again.
        unfinished: experiments that still have to be evaluated after the latest step, or measured on
            `data.retain` at their end; a checkpoint lists some only if a signal arrived before this was done.
    """

    tick: int
    progress: dict[str, Progress]
    tensors: dict[str, SlotTensors]
    limits: dict[int, Limits] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    @classmethod
    def at_start(cls, names: list[str]) -> TrainingState:
        """Return the state before the first step."""
        return cls(0, {name: Progress() for name in names}, {name: SlotTensors() for name in names})

    @property
    def has_ended(self) -> bool:
        """Whether every experiment has ended."""
        return all(progress.has_ended for progress in self.progress.values())

    def limits_at(self, step: int, planned: int | None = None) -> Limits:
        """Return the limits for a step of the run (from 1); `planned` is a further limit on pass tokens."""
        return reduce(
            Limits.narrowed, (own for since, own in self.limits.items() if since <= step), Limits(planned)
        )

    def narrow(self, step: int, limits: Limits) -> None:
        """Add a limit that applies from the given step on."""
        self.limits[step] = self.limits_at(step).narrowed(limits)

    def lift(self, step: int) -> None:
        """Remove the limit on passes added at a step, because the experiment that caused it has failed."""
        own = self.limits.pop(step, Limits())
        if own.eval_rows is not None:
            self.limits[step] = Limits(eval_rows=own.eval_rows)

    def replay(self, events: Iterable[Event]) -> None:
        """Apply the limits recorded in a run's log, including those of steps that a resumed run repeats."""
        for event in events:
            if not isinstance(event, MemoryLimit):
                continue
            if event.phase == "lifted":
                self.lift(event.step)
            else:
                self.narrow(event.step, Limits(event.pass_tokens, event.eval_rows))

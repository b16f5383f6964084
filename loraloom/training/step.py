"""One step of every experiment that is training: gradients of all in shared passes, an update for each.

Until the first update nothing has changed, so that a signal, or memory that runs out, leaves all as it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from loraloom.run.events import MemoryLimit, Report, TrainStep
from loraloom.training.micro_batches import RowTooLargeError, fits_beside_another, step_losses
from loraloom.training.optimizer import (
    clear_gradients,
    clip_gradients,
    gradient_norm,
    learning_rate,
    set_learning_rate,
    weight_norm,
)
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.setup import Setup, Trainee
from loraloom.training.state import TrainingState


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step of one experiment gave, before the step is taken.

    Args:
        loss: over its label tokens.
        gradient_norm: on the device.
        norm: the same, on the processor.
        num_tokens: that it saw.
        rows: of the train set.
    """

    loss: float
    gradient_norm: torch.Tensor
    norm: float
    num_tokens: int
    rows: Sequence[int]

    @property
    def is_finite(self) -> bool:
        """Whether the weights may change."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)

    @property
    def where(self) -> str:
        """The rows it was taken on, by number."""
        return f"training rows {', '.join(str(row + 1) for row in self.rows[:20])}"


def take_step(setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    """One tick, up to its evaluation; a signal between two of its passes leaves all as it was before."""
    started = time.perf_counter()
    taking = list(trainees)
    results: list[StepResult] | None = []
    while taking:
        try:
            results = _gradients(setup, taking, state, report)
            break
        except RowTooLargeError as error:
            taking.remove(_too_large(setup, taking, error, state, report))
    if results is None:
        return
    _update_all(setup, taking, results, state, report, started)
    state.tick += 1
    state.unfinished = [t.name for t in trainees if t.is_due("eval")]


def _too_large(
    setup: Setup, trainees: Sequence[Trainee], error: RowTooLargeError, state: TrainingState, report: Report
) -> Trainee:
    """Who fails because a row does not fit beside its adapter; the others go on as if it had not been.

    Raises:
        RowTooLargeError: it fits beside no other adapter either, or there is no other experiment.
    """
    trainee = trainees[error.piece.trainee]
    if setup.has_one_experiment:
        raise error
    if len(trainees) > 1 and not fits_beside_another(setup, trainees, error.piece):
        raise error
    beside = "fits beside another adapter, but not beside this one" if len(trainees) > 1 else "does not fit"
    row = f"training row {error.piece.rows[0] + 1}, {error.piece.num_tokens} tokens, {beside}"
    step = trainee.progress.step + 1
    trainee.progress.fail(f"out of memory at step {step}: {row}; the weights are as they were before it")
    state.lift(state.tick + 1)
    limits = state.limits_at(state.tick + 1)
    report(
        MemoryLimit(
            step=state.tick + 1,
            phase="lifted",
            experiment=trainee.name,
            tried=error.piece.num_tokens,
            pass_tokens=limits.pass_tokens,
            eval_rows=limits.eval_rows,
        )
    )
    return trainee


def _gradients(
    setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report
) -> list[StepResult] | None:
    """The loss and the gradient of everyone's next step; None where a signal came before they were there."""
    plans = [t.timetable.micro_batches(t.progress.step) for t in trainees]
    losses = step_losses(setup, trainees, plans, state, report)
    if losses is None:
        return None
    gradient_norms = [gradient_norm(t.optimizer.updated) for t in trainees]
    on_host, norms = torch.stack([losses, torch.stack(gradient_norms)]).tolist()  # the device is asked once
    rows = [[row for micro_batch in plan for row in micro_batch] for plan in plans]
    num_tokens = [int(setup.train_set.num_tokens(own).sum()) for own in rows]
    columns = on_host, gradient_norms, norms, num_tokens, rows
    return [StepResult(*result) for result in zip(*columns, strict=True)]


def _update_all(
    setup: Setup,
    trainees: Sequence[Trainee],
    results: Sequence[StepResult],
    state: TrainingState,
    report: Report,
    started: float,
) -> None:
    """Step each optimizer; an experiment whose loss, gradient or weights are not finite fails instead."""
    changes: list[_Change] = []
    for trainee, result in zip(trainees, results, strict=True):
        if not result.is_finite:
            _fail_step(trainee, f"loss {result.loss}, gradient norm {result.norm}", result)
            continue
        try:
            changes.append(_update(trainee, result))
        except (MemoryError, RuntimeError) as error:
            if setup.has_one_experiment or not is_out_of_memory(error):
                raise
            _fail_step(trainee, "out of memory for the state of its optimizer", result)
        if not setup.waits_once:
            _settle(changes)
            changes.clear()
    _settle(changes)
    seconds = time.perf_counter() - started
    for trainee, result in zip(trainees, results, strict=True):
        if trainee.progress.status == "failed":
            continue
        timetable, step = trainee.timetable, trainee.progress.step
        report(
            TrainStep(
                step=state.tick + 1,
                experiment=trainee.name,
                experiment_step=step,
                total_steps=timetable.total_steps,
                epoch=round(step / timetable.steps_per_epoch, 4),
                loss=result.loss,
                learning_rate=learning_rate(trainee.experiment.training, step - 1, timetable.total_steps),
                grad_norm=result.norm,
                num_tokens=result.num_tokens,
                tokens_per_second=round(result.num_tokens / seconds, 1),
            )
        )


@dataclass(frozen=True)
class _Change:
    """An update that was made, and what takes it back."""

    trainee: Trainee
    result: StepResult
    before: Sequence[torch.Tensor]
    norm: torch.Tensor


@torch.no_grad()
def _update(trainee: Trainee, result: StepResult) -> _Change:
    """One optimizer step."""
    progress, training, optimizer = trainee.progress, trainee.experiment.training, trainee.optimizer
    before = [parameter.clone() for parameter in optimizer.updated]
    set_learning_rate(optimizer, learning_rate(training, progress.step, trainee.timetable.total_steps))
    clip_gradients(optimizer.updated, result.gradient_norm, training.max_grad_norm)
    optimizer.step()
    clear_gradients(optimizer)
    return _Change(trainee, result, before, weight_norm(optimizer.updated))


@torch.no_grad()
def _settle(changes: Sequence[_Change]) -> None:
    """Count the steps; take back those that left weights that are not finite."""
    norms = torch.stack([change.norm for change in changes]).tolist() if changes else []
    for change, norm in zip(changes, norms, strict=True):
        if math.isfinite(norm):
            change.trainee.progress.step += 1
            continue
        for parameter, old in zip(change.trainee.optimizer.updated, change.before, strict=True):
            parameter.copy_(old)
        what = f"loss {change.result.loss}, but the norm of the new weights {norm}"
        _fail_step(change.trainee, what, change.result)


def _fail_step(trainee: Trainee, what: str, result: StepResult) -> None:
    step = trainee.progress.step + 1
    trainee.progress.fail(f"{what} at step {step} ({result.where}); the weights are as they were before it")

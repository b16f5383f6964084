"""Training, readable from top to bottom.

One *tick* is one optimizer step of every experiment that is still training: their micro-batches
lie side by side in one pass over the frozen base, one backward pass gives every adapter its own
gradient, and each adapter's own optimizer steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from loraloom.bank.dropout import base_dropout
from loraloom.errors import Interrupted
from loraloom.run import Report
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.exporting import export, kept_in
from loraloom.training.judging import copy_tensors, evaluate, measure_forgetting
from loraloom.training.optimizer import (
    clip_gradients,
    gradient_norm,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
    weight_norm,
)
from loraloom.training.passes import step_losses
from loraloom.training.setup import Setup, Trainee
from loraloom.training.state import Timetable, TrainingState


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step of one experiment gave, before the step is taken."""

    loss: float
    norm: torch.Tensor
    num_tokens: int
    rows: Sequence[int]

    @property
    def is_finite(self) -> bool:
        """Whether the weights may change."""
        return math.isfinite(self.loss) and math.isfinite(float(self.norm))

    @property
    def where(self) -> str:
        """The rows it was taken on, by number."""
        return f"training rows {', '.join(str(row + 1) for row in self.rows[:20])}"


def train(setup: Setup, state: TrainingState, report: Report) -> TrainingState:
    """Train every experiment that has not ended; on return all have, or `setup.pause` asked for it.

    Args:
        setup: what to train on.
        state: at the start, or of a checkpoint; changed in place.
        report: told of every step, evaluation and save.

    Raises:
        Interrupted: a signal came; the checkpoint of this tick is written.
        CheckpointError: a checkpoint could not be written.
        TrainingError: memory does not hold a single row's pass.
    """
    p = setup.shared.base_dropout
    with base_dropout(
        setup.bank.base, setup.bank.ambient, setup.bank.base.model_dropout if p == "model" else float(p)
    ):
        for wave in setup.waves:
            trainees = [_join(setup, state, name) for name in wave if not _has_left(state, name)]
            while trainees:
                if not state.unfinished:  # or else a signal came between a step and what follows it
                    _step(setup, trainees, state, report)
                evaluate(setup, trainees, state, report)
                save = any(_is_save_due(t) for t in trainees)
                for trainee in trainees:
                    _leave_if_ended(setup, trainee, state, report)
                trainees = [t for t in trainees if not _has_left(state, t.name)]
                is_pause = bool(trainees) and setup.pause(state)
                if save or setup.stop or is_pause:
                    _save(setup, trainees, state, report)
                if setup.stop:
                    where = f"stopped and saved after step {state.tick}"
                    how = f"the same command with --resume {setup.run.folder} goes on, bit for bit"
                    raise Interrupted(setup.stop.signal_number, f"{where}; {how}")
                if is_pause:
                    _detach(setup, trainees)
                    return state
    return state


def _has_left(state: TrainingState, name: str) -> bool:
    return state.progress[name].has_ended and name not in state.unfinished


def _is_due(trainee: Trainee, what: str) -> bool:
    progress = trainee.progress
    return not progress.has_ended and trainee.timetable.is_due(what, progress.step)  # type: ignore[arg-type]


def _is_save_due(trainee: Trainee) -> bool:
    """An experiment that ends before its time is saved too, or a resume would train it again."""
    has_ended_early = trainee.progress.has_ended and trainee.experiment.training.save_strategy != "no"
    return has_ended_early or _is_due(trainee, "save")


def _join(setup: Setup, state: TrainingState, name: str) -> Trainee:
    """Attach an experiment's adapter: fresh, from another adapter, or as a checkpoint has it."""
    experiment = next(e for e in setup.experiments if e.name == name)
    progress, tensors = state.progress[name], state.tensors[name]
    if not progress.has_ended:
        progress.status = "training"
    setup.bank.attach(name, experiment.lora, experiment.seed, tensors.current or setup.initial.get(name))
    optimizer = make_optimizer(setup.bank.parameters(name), experiment.training)
    restore_optimizer(optimizer, setup.bank.tensors(name), tensors.optimizer)
    return Trainee(experiment, Timetable(experiment, len(setup.train_set)), optimizer, progress)


def _step(setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    """One tick, up to its evaluation; a signal between two of its passes leaves all as it was before."""
    started = time.perf_counter()
    results = _gradients(setup, trainees, state, report)
    if results is None:
        return
    _take_steps(setup, trainees, results, state, report, started)
    state.tick += 1
    state.unfinished = [t.name for t in trainees if _is_due(t, "eval")]


def _gradients(
    setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report
) -> list[StepResult] | None:
    """The loss and the gradient of everyone's next step; None where a signal came before they were there."""
    bank, examples = setup.bank, setup.train_set
    plans = [t.timetable.micro_batches(t.progress.step) for t in trainees]
    losses = step_losses(setup, trainees, plans, state, report)
    if losses is None:
        return None
    norms = [gradient_norm(bank.parameters(t.name)) for t in trainees]
    rows = [[row for micro_batch in plan for row in micro_batch] for plan in plans]
    num_tokens = [
        sum(len(examples[row].input_ids) + len(examples[row].labels) for row in own) for own in rows
    ]
    return [StepResult(*result) for result in zip(losses, norms, num_tokens, rows, strict=True)]


def _take_steps(
    setup: Setup,
    trainees: Sequence[Trainee],
    results: Sequence[StepResult],
    state: TrainingState,
    report: Report,
    started: float,
) -> None:
    """Step each optimizer; an experiment whose loss, gradient or weights are not finite fails instead."""
    for trainee, result in zip(trainees, results, strict=True):
        if result.is_finite:
            _take_step(setup, trainee, result)
        else:
            _fail(trainee, f"loss {result.loss}, gradient norm {float(result.norm)}", result)
    seconds = time.perf_counter() - started
    for trainee, result in zip(trainees, results, strict=True):
        if trainee.progress.status == "failed":
            continue
        timetable, step = trainee.timetable, trainee.progress.step
        report(
            "train",
            step=state.tick + 1,
            experiment=trainee.name,
            experiment_step=step,
            total_steps=timetable.total_steps,
            epoch=round(step / timetable.steps_per_epoch, 4),
            loss=result.loss,
            learning_rate=learning_rate(trainee.experiment.training, step - 1, timetable.total_steps),
            grad_norm=float(result.norm),
            num_tokens=result.num_tokens,
            tokens_per_second=round(result.num_tokens / seconds, 1),
        )


@torch.no_grad()
def _take_step(setup: Setup, trainee: Trainee, result: StepResult) -> None:
    """One optimizer step, taken back where it leaves weights that are not finite."""
    progress, training = trainee.progress, trainee.experiment.training
    parameters = setup.bank.parameters(trainee.name)
    before = [parameter.clone() for parameter in parameters]
    set_learning_rate(
        trainee.optimizer, learning_rate(training, progress.step, trainee.timetable.total_steps)
    )
    clip_gradients(parameters, result.norm, training.max_grad_norm)
    trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)
    norm = float(weight_norm(parameters))
    if math.isfinite(norm):
        progress.step += 1
        return
    for parameter, old in zip(parameters, before, strict=True):
        parameter.copy_(old)
    _fail(trainee, f"loss {result.loss}, but the norm of the new weights {norm}", result)


def _fail(trainee: Trainee, what: str, result: StepResult) -> None:
    progress = trainee.progress
    progress.status = "failed"
    progress.reason = (
        f"{what} at step {progress.step + 1} ({result.where}); the weights are as they were before it"
    )


def _leave_if_ended(setup: Setup, trainee: Trainee, state: TrainingState, report: Report) -> None:
    """An experiment that has taken its last step leaves the bank; its best becomes its adapter."""
    progress, tensors, bank = trainee.progress, state.tensors[trainee.name], setup.bank
    is_judged = trainee.name not in state.unfinished
    if progress.status == "training" and progress.step >= trainee.timetable.total_steps and is_judged:
        progress.status = "done"
    if not progress.has_ended:
        return
    # Never evaluated, the last is the best there is; of one that failed, where it still is a number.
    if not tensors.best and math.isfinite(float(weight_norm(bank.parameters(trainee.name)))):
        tensors.best = copy_tensors(bank.tensors(trainee.name))
        progress.best_step = progress.step
    is_to_be_measured = len(setup.retain_set) and progress.status != "failed"
    if is_to_be_measured and not measure_forgetting(setup, trainee, state, report):
        return
    tensors.current, tensors.optimizer = {}, {}
    if (kept := kept_in(setup.run, state, trainee.name)) is not None:
        export(setup, state, trainee.name)
        if progress.status == "failed":
            progress.reason += f"; what it had learnt by step {progress.best_step} is in {kept}"
    report(
        "end",
        step=state.tick,
        experiment=trainee.name,
        experiment_step=progress.step,
        status=progress.status,
        reason=progress.reason,
        best_step=progress.best_step,
        best_metric=progress.best_metric,
        forgetting=progress.forgetting,
    )
    bank.drop(trainee.name)


def _detach(setup: Setup, trainees: Sequence[Trainee]) -> None:
    """Leave the bank empty; what the trainees have learnt is in the state that was just saved."""
    for trainee in trainees:
        setup.bank.drop(trainee.name)


def _save(setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    for trainee in trainees:
        tensors = state.tensors[trainee.name]
        tensors.current = setup.bank.tensors(trainee.name)
        tensors.optimizer = optimizer_tensors(trainee.optimizer, setup.bank.tensors(trainee.name))
    path = save_checkpoint(setup.run.checkpoints, state, keep=setup.shared.save_total_limit)
    report("save", step=state.tick, path=path.name)

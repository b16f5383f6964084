"""The training loop and its steps.

One step of the run is one optimizer step of every experiment that is training: their micro-batches are side
by side in one pass over the frozen base, one backward pass gives each adapter its own gradient
(`passes.py`), and each adapter has its own optimizer. Nothing changes until the first update, so a signal or
a lack of memory before then leaves the state unchanged.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loraloom.bank.dropout import base_dropout
from loraloom.run.events import CheckpointSave, Report, TrainStep
from loraloom.text.message import Message
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.engine import Engine, SignalReceivedError, Trainee
from loraloom.training.evaluation import evaluate
from loraloom.training.membership import has_left, join_all, leave_if_ended
from loraloom.training.memory import drop_gradients, make_room
from loraloom.training.optimizer import gradient_norm, optimizer_tensors, weight_norm
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.passes import PassTooLargeError, step_losses
from loraloom.training.setup import Setup
from loraloom.training.shared_work import shared_step_losses
from loraloom.training.signals import interruption
from loraloom.training.state import TrainingState
from loraloom.training.static_staging import stage_next


def train(setup: Setup, state: TrainingState, report: Report) -> TrainingState:
    """Train until every experiment has ended, or until `setup.pause` asks to return.

    Args:
        setup: the input of the training.
        state: state before the first step, or from a checkpoint; changed in place.
        report: receives every step, evaluation and save.

    Raises:
        Interrupted: a stop was requested; the checkpoint of this step is written.
        CheckpointError: a checkpoint could not be written.
        TrainingError: a single row does not fit in memory with any adapter, or the ranks have diverged.
        BankError: another thread is using the base.
    """
    asked, base = setup.shared.base_dropout, setup.bank.base
    p = base.model_dropout if asked == "model" else float(asked)
    engine = Engine(setup, state, report)
    with setup.bank.hold(), base_dropout(base, p):
        for wave in setup.waves:
            join_all(engine, wave)
            while engine.trainees:
                if not state.unfinished:  # otherwise a signal arrived between a step and its evaluation
                    take_step(engine)
                evaluate(engine)
                is_save_due = any(_is_save_due(trainee) for trainee in engine.trainees)
                for trainee in engine.trainees:
                    leave_if_ended(engine, trainee)
                engine.trainees = [t for t in engine.trainees if not has_left(state, t.name)]
                is_pause = bool(engine.trainees) and setup.pause(state)
                if is_save_due or setup.stop or is_pause:
                    _save(engine)
                if setup.stop:
                    raise interruption(setup.run, state.tick, engine.stop.signal_number)
                if is_pause:
                    _detach(engine)
                    return state
    return state


def _is_save_due(trainee: Trainee) -> bool:
    """Return whether a checkpoint is due: as set, or at an early end, which a resume would train past."""
    has_ended_early = trainee.progress.has_ended and trainee.experiment.training.save_strategy != "no"
    return has_ended_early or trainee.is_due("save")


def _save(engine: Engine) -> None:
    for trainee in engine.trainees:
        name, tensors = trainee.name, trainee.tensors
        tensors.current = engine.bank.tensors(name)
        tensors.optimizer = optimizer_tensors(trainee.optimizer, engine.optimized_names(name))
    setup, state = engine.setup, engine.state
    if setup.ranks.is_leader:
        path = save_checkpoint(setup.run.checkpoints, state, keep=setup.shared.save_total_limit)
        engine.report(CheckpointSave(step=state.tick, path=path.name))


def _detach(engine: Engine) -> None:
    """Empty the bank; the trainees' adapters are in the state that was just saved."""
    for trainee in engine.trainees:
        engine.bank.drop(trainee.name)


@dataclass(frozen=True)
class StepResult:
    """Loss and gradient of one experiment's step, before its weights are updated.

    Args:
        loss: mean loss of its label tokens.
        gradient_norm: norm of the gradient, on the device.
        norm: the same norm, as a number on the CPU.
        num_tokens: number of source and target tokens of its rows.
        rows: indices of its rows in the train set.
    """

    loss: float
    gradient_norm: Tensor
    norm: float
    num_tokens: int
    rows: Sequence[int]

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite, so that the weights may change."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def take_step(engine: Engine) -> None:
    """Take one step of every trainee; a signal between two of its passes leaves everything unchanged."""
    started = time.perf_counter()
    trainees = list(engine.trainees)
    results: list[StepResult] = []
    while trainees:  # `make_room` removes an experiment that fits no pass
        try:
            results = _gradients(engine, trainees)
            break
        except SignalReceivedError:
            drop_gradients(trainees)
            return
        except PassTooLargeError as error:
            too_large = error.each
        make_room(engine, trainees, too_large)
    _update_all(engine, trainees, results)
    _report(engine, trainees, results, time.perf_counter() - started)
    engine.state.tick += 1
    engine.state.unfinished = [t.name for t in engine.trainees if t.is_due("eval")]


def _gradients(engine: Engine, trainees: Sequence[Trainee]) -> list[StepResult]:
    """Compute loss and gradient of each trainee's next step.

    Raises:
        PassTooLargeError, SignalReceivedError: as in `step_losses`.
    """
    plans = [t.timetable.micro_batches(t.progress.step) for t in trainees]
    compute = shared_step_losses if engine.setup.ranks.size > 1 else step_losses
    losses = compute(engine, trainees, plans)
    if (static := engine.setup.static_passes) is not None:
        stage_next(engine, static, trainees)
    gradient_norms = [gradient_norm(t.optimizer.updated) for t in trainees]
    losses_on_host, norms = torch.stack(
        [losses, torch.stack(gradient_norms)]
    ).tolist()  # one wait for the device
    rows = [[row for micro_batch in plan for row in micro_batch] for plan in plans]
    num_tokens = [int(engine.setup.train_set.num_tokens(own).sum()) for own in rows]
    columns = losses_on_host, gradient_norms, norms, num_tokens, rows
    return [StepResult(*result) for result in zip(*columns, strict=True)]


def _update_all(engine: Engine, trainees: Sequence[Trainee], results: Sequence[StepResult]) -> None:
    """Step each optimizer; an experiment whose loss, gradient or weights are not finite fails instead."""
    changes: list[_Change] = []
    for trainee, result in zip(trainees, results, strict=True):
        if not result.is_finite:
            what = Message("loss {loss}, gradient norm {norm}", loss=result.loss, norm=result.norm)
            _fail(trainee, what, result)
            continue
        try:
            changes.append(_update(trainee, result))
        except (MemoryError, RuntimeError) as error:
            if not engine.setup.can_fail_alone or not is_out_of_memory(error):
                raise
            _fail(trainee, Message("out of memory while its weights were updated"), result)
        if not engine.setup.waits_once:
            _settle(changes)
            changes.clear()
    _settle(changes)


@dataclass(frozen=True)
class _Change:
    """An update, and what is needed to undo it.

    Args:
        trainee: the experiment that was updated.
        result: result of its step.
        before: its weights before the update.
        norm: norm of its weights after the update, on the device.
    """

    trainee: Trainee
    result: StepResult
    before: Sequence[Tensor]
    norm: Tensor


@torch.no_grad()
def _update(trainee: Trainee, result: StepResult) -> _Change:
    """Set the learning rate, clip the gradients, step the optimizer."""
    optimizer, rate = trainee.optimizer, trainee.timetable.learning_rate(trainee.progress.step)
    before = [parameter.clone() for parameter in optimizer.updated]
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_factor"]
    clip_gradients(optimizer.updated, result.gradient_norm, trainee.experiment.training.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    return _Change(trainee, result, before, weight_norm(optimizer.updated))


@torch.no_grad()
def _settle(changes: Sequence[_Change]) -> None:
    """Count each update as a step; undo updates with non-finite weights, and fail their experiments."""
    norms = torch.stack([change.norm for change in changes]).tolist() if changes else []
    for change, norm in zip(changes, norms, strict=True):
        if math.isfinite(norm):
            change.trainee.progress.step += 1
            continue
        for parameter, old in zip(change.trainee.optimizer.updated, change.before, strict=True):
            parameter.copy_(old)
        what = Message(
            "loss {loss}, but the norm of the new weights is {norm}", loss=change.result.loss, norm=norm
        )
        _fail(change.trainee, what, change.result)


def _fail(trainee: Trainee, what: str, result: StepResult) -> None:
    step, rows = trainee.progress.step + 1, ", ".join(str(row + 1) for row in result.rows[:20])
    trainee.progress.fail(
        Message(
            "{what} at step {step} (training rows {rows}); the weights are unchanged by this step",
            what=what,
            step=step,
            rows=rows,
        )
    )


def _report(
    engine: Engine, trainees: Sequence[Trainee], results: Sequence[StepResult], seconds: float
) -> None:
    """Report the step of each trainee that did not fail."""
    for trainee, result in zip(trainees, results, strict=True):
        if trainee.progress.status == "failed":
            continue
        timetable, step = trainee.timetable, trainee.progress.step
        engine.report(
            TrainStep(
                step=engine.state.tick + 1,
                experiment=trainee.name,
                experiment_step=step,
                total_steps=timetable.total_steps,
                epoch=round(step / timetable.steps_per_epoch, 4),
                loss=result.loss,
                learning_rate=timetable.learning_rate(step - 1),
                grad_norm=result.norm,
                num_tokens=result.num_tokens,
                tokens_per_second=round(result.num_tokens / seconds, 1),
            )
        )


def clip_gradients(parameters: Iterable[nn.Parameter], norm: Tensor, max_norm: float) -> None:
    """Scale gradients down to `max_norm` if their total `norm` is larger; a `max_norm` of 0 does not clip."""
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)

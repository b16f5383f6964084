"""Training, readable from top to bottom.

One *tick* is one optimizer step of every experiment that is still training: their micro-batches
lie side by side in one pass over the frozen base, one backward pass gives every adapter its own
gradient, and each adapter's own optimizer steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from loraloom.bank.dropout import base_dropout
from loraloom.bank.objective import part_losses
from loraloom.bank.rows import training_rows
from loraloom.data.batches import Batch, Part, collate
from loraloom.errors import Interrupted
from loraloom.run import Report
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.exporting import export
from loraloom.training.judging import copy_tensors, evaluate, measure_forgetting
from loraloom.training.optimizer import (
    clip_gradients,
    gradient_norm,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
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


def train(setup: Setup, state: TrainingState, report: Report) -> TrainingState:
    """Train every experiment that has not ended; on return all have, or `setup.pause` asked for it.

    Args:
        setup: what to train on.
        state: at the start, or of a checkpoint; changed in place.
        report: told of every step, evaluation and save.

    Raises:
        Interrupted: a signal came; the checkpoint of this tick is written.
        CheckpointError: a checkpoint could not be written.
    """
    p = setup.shared.base_dropout
    with base_dropout(
        setup.bank.base, setup.bank.ambient, setup.bank.base.model_dropout if p == "model" else float(p)
    ):
        for wave in setup.waves:
            trainees = [_join(setup, state, name) for name in wave if not state.progress[name].has_ended]
            while trainees:
                started = time.perf_counter()
                results = _gradients(setup, trainees)
                _take_steps(setup, trainees, results, state, report, started)
                state.tick += 1
                evaluate(setup, [t for t in trainees if _is_due(t, "eval")], state, report)
                save = any(_is_save_due(t) for t in trainees)
                for trainee in trainees:
                    _leave_if_ended(setup, trainee, state, report)
                trainees = [t for t in trainees if not t.progress.has_ended]
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
    progress.status = "training"
    setup.bank.attach(name, experiment.lora, experiment.seed, tensors.current or setup.initial.get(name))
    optimizer = make_optimizer(setup.bank.parameters(name), experiment.training)
    restore_optimizer(optimizer, setup.bank.tensors(name), tensors.optimizer)
    return Trainee(experiment, Timetable(experiment, len(setup.train_set)), optimizer, progress)


def _gradients(setup: Setup, trainees: Sequence[Trainee]) -> list[StepResult]:
    """Forward and backward passes, each for as many trainees' micro-batches as a pass may hold.

    A trainee's loss is the sum over its label tokens divided by their number in its whole step, so
    that accumulated micro-batches weigh every token alike.
    """
    bank, examples = setup.bank, setup.train_set
    plans = [t.timetable.micro_batches(t.progress.step) for t in trainees]
    num_labels = [sum(len(examples[row].labels) for rows in plan for row in rows) for plan in plans]
    losses = torch.zeros(len(trainees), device=bank.base.device)
    seeds = {t.name: t.experiment.seed for t in trainees}
    steps = {t.name: t.progress.step for t in trainees}
    for micro_batch in range(max(len(plan) for plan in plans)):
        parts = {
            number: Part(trainees[number].name, [examples[row] for row in plan[micro_batch]])
            for number, plan in enumerate(plans)
            if micro_batch < len(plan)
        }
        for together in _passes(parts, setup.pass_tokens):
            batch = _batch(setup, [parts[number] for number in together])
            # The backward pass recomputes activations under checkpointing: it needs to know whose rows.
            with bank.rows(training_rows(batch, seeds=seeds, steps=steps, micro_batch=micro_batch)):
                per_label = losses.new_tensor([1 / num_labels[number] for number in together])
                part = part_losses(bank.base, batch) * per_label
                part.sum().backward()
            losses[together] += part.detach()
    norms = [gradient_norm(bank.parameters(t.name)) for t in trainees]
    return [
        StepResult(
            loss=loss,
            norm=norm,
            num_tokens=num + sum(len(examples[row].input_ids) for rows in plan for row in rows),
            rows=[row for rows in plan for row in rows],
        )
        for loss, norm, num, plan in zip(losses.tolist(), norms, num_labels, plans, strict=True)
    ]


def _passes(parts: Mapping[int, Part], most_tokens: int) -> list[list[int]]:
    """Which parts share a pass, in order: as many as hold at most so many tokens, but at least one."""
    passes: list[list[int]] = []
    room = 0
    for number, part in parts.items():
        num_tokens = sum(len(example.input_ids) + len(example.labels) for example in part.examples)
        if not passes or num_tokens > room:
            passes.append([])
            room = most_tokens
        passes[-1].append(number)
        room -= num_tokens
    return passes


def _batch(setup: Setup, parts: Sequence[Part]) -> Batch:
    base = setup.bank.base
    batch = collate(
        parts,
        pad_token_id=base.pad_token_id,
        start_token_id=base.start_token_id,
        packing=setup.shared.packing,
    )
    return batch.to(base.device)


def _take_steps(
    setup: Setup,
    trainees: Sequence[Trainee],
    results: Sequence[StepResult],
    state: TrainingState,
    report: Report,
    started: float,
) -> None:
    """Step each optimizer; an experiment whose loss or gradient is not finite fails instead."""
    for trainee, result in zip(trainees, results, strict=True):
        progress, training = trainee.progress, trainee.experiment.training
        parameters = setup.bank.parameters(trainee.name)
        if not result.is_finite:
            progress.status = "failed"
            progress.reason = (
                f"loss {result.loss}, gradient norm {float(result.norm)} at step {progress.step + 1} "
                f"(training rows {', '.join(str(row + 1) for row in result.rows[:20])}); "
                "the weights are as they were before it"
            )
            continue
        rate = learning_rate(training, progress.step, trainee.timetable.total_steps)
        set_learning_rate(trainee.optimizer, rate)
        clip_gradients(parameters, result.norm, training.max_grad_norm)
        trainee.optimizer.step()
        trainee.optimizer.zero_grad(set_to_none=True)
        progress.step += 1
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


def _leave_if_ended(setup: Setup, trainee: Trainee, state: TrainingState, report: Report) -> None:
    """An experiment that has taken its last step leaves the bank; its best becomes its adapter."""
    progress, tensors, bank = trainee.progress, state.tensors[trainee.name], setup.bank
    if progress.status == "training" and progress.step >= trainee.timetable.total_steps:
        progress.status = "done"
    if not progress.has_ended:
        return
    if not tensors.best:  # never evaluated: the last is the best there is
        tensors.best = copy_tensors(bank.tensors(trainee.name))
        progress.best_step = progress.step
    tensors.current, tensors.optimizer = {}, {}
    if len(setup.retain_set) and progress.status != "failed":
        measure_forgetting(setup, trainee, tensors.best)
    if progress.status != "failed":
        export(setup, state, trainee.name)
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

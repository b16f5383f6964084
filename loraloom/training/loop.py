"""Training, readable from top to bottom.

One *tick* is one optimizer step of every experiment that is still training: their micro-batches
lie side by side in one pass over the frozen base, one backward pass gives every adapter its own
gradient, and each adapter's own optimizer steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.dropout import base_dropout
from loraloom.bank.objective import part_losses
from loraloom.bank.peft_folder import portable_name, write_adapter
from loraloom.bank.rows import BASE, training_rows
from loraloom.base.targets import peft_target_modules
from loraloom.data.batches import Part, collate
from loraloom.data.encoding import EncodedSet
from loraloom.errors import Interrupted, LoRALoomError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.evaluate.metrics import METRICS
from loraloom.recipe import Experiment, GenerationSettings, TrainingSettings
from loraloom.run import Report, Run
from loraloom.training.card import adapter_card, read_facts
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.optimizer import (
    clip_gradients,
    gradient_norm,
    learning_rate,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)
from loraloom.training.state import Progress, Timetable, TrainingState
from loraloom.training.stopping import StopRequest


def never(state: TrainingState) -> bool:
    """A `Setup.pause` that lets training run to its end."""
    return False


@dataclass(frozen=True)
class Setup:
    """All that training needs and does not change.

    Args:
        bank: on the frozen base, empty.
        experiments: to train.
        waves: which of them train together, by name.
        initial: for experiments that go on from an adapter, its tensors.
        train_set, eval_set: encoded rows; the second may be empty.
        eval_references: the eval rows' responses as text, where a metric needs them.
        retain_set: rows to measure forgetting on; may be empty.
        shared: the settings that all experiments share.
        generation: how to answer, for generation metrics.
        run: where checkpoints and adapters go.
        stop: set by a signal.
        pause: asked after every tick whether to save and return early, so that the caller may take
            experiments out of the state and put others in before it trains on.
    """

    bank: AdapterBank
    experiments: Sequence[Experiment]
    waves: Sequence[Sequence[str]]
    initial: dict[str, dict[str, torch.Tensor]]
    train_set: EncodedSet
    eval_set: EncodedSet
    eval_references: Sequence[str]
    retain_set: EncodedSet
    shared: TrainingSettings
    generation: GenerationSettings
    run: Run
    stop: StopRequest
    pause: Callable[[TrainingState], bool] = never


@dataclass
class Trainee:
    """An experiment that is training: its settings, its timetable, its optimizer."""

    experiment: Experiment
    timetable: Timetable
    optimizer: torch.optim.AdamW
    progress: Progress

    @property
    def name(self) -> str:
        """Of the experiment and of its slot in the bank."""
        return self.experiment.name


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
                _evaluate(setup, [t for t in trainees if _is_due(t, "eval")], state, report)
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
    """One forward and backward pass a micro-batch, for all trainees together.

    A trainee's loss is the sum over its label tokens divided by their number in its whole step, so
    that accumulated micro-batches weigh every token alike.
    """
    bank, base, examples = setup.bank, setup.bank.base, setup.train_set
    plans = [t.timetable.micro_batches(t.progress.step) for t in trainees]
    num_labels = [sum(len(examples[row].labels) for rows in plan for row in rows) for plan in plans]
    losses = torch.zeros(len(trainees), device=base.device)
    seeds = {t.name: t.experiment.seed for t in trainees}
    steps = {t.name: t.progress.step for t in trainees}
    for micro_batch in range(max(len(plan) for plan in plans)):
        taking_part = [number for number, plan in enumerate(plans) if micro_batch < len(plan)]
        batch = collate(
            [Part(trainees[n].name, [examples[row] for row in plans[n][micro_batch]]) for n in taking_part],
            pad_token_id=base.pad_token_id,
            start_token_id=base.start_token_id,
            packing=setup.shared.packing,
        ).to(base.device)
        # The backward pass recomputes activations under checkpointing: it needs to know whose rows.
        with bank.rows(training_rows(batch, seeds=seeds, steps=steps, micro_batch=micro_batch)):
            per_label = torch.tensor([1 / num_labels[n] for n in taking_part], device=base.device)
            part = part_losses(base, batch) * per_label
            part.sum().backward()
        losses[taking_part] += part.detach()
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


def _evaluate(setup: Setup, due: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    """Evaluate those that are due in one pass; remember each one's best adapter."""
    if not due or not len(setup.eval_set):
        return
    names = [trainee.name for trainee in due]
    losses = eval_losses(
        setup.bank,
        names,
        setup.eval_set,
        batch_size=setup.shared.per_device_eval_batch_size,
        packing=setup.shared.packing,
    )
    wanted = [t for t in due if t.experiment.training.metric_for_best_model != "eval_loss"]
    figures = _generation_figures(setup, [t.name for t in wanted]) if wanted else {}
    for trainee in due:
        progress, training = trainee.progress, trainee.experiment.training
        values: dict[str, float] = {"eval_loss": losses[trainee.name], **figures.get(trainee.name, {})}
        if not all(math.isfinite(value) for value in values.values()):
            progress.status = "failed"
            progress.reason = f"eval_loss is {values['eval_loss']} after step {progress.step}"
            continue
        report(
            "eval",
            step=state.tick,
            experiment=trainee.name,
            experiment_step=progress.step,
            epoch=round(progress.step / trainee.timetable.steps_per_epoch, 4),
            **values,
        )
        metric = training.metric_for_best_model
        gain = _gain(metric, values[metric], progress.best_metric)
        if gain > 0:
            progress.best_metric, progress.best_step = values[metric], progress.step
            state.tensors[trainee.name].best = _copy(setup.bank.tensors(trainee.name))
        improved = gain > training.early_stopping_threshold
        progress.evaluations_without_improvement = (
            0 if improved else progress.evaluations_without_improvement + 1
        )
        patience = training.early_stopping_patience
        if patience is not None and progress.evaluations_without_improvement >= patience:
            progress.status = "stopped"
            progress.reason = f"no better {metric} in {patience} evaluations"


def _gain(metric: str, value: float, best: float | None) -> float:
    """By how much a figure is better than the best so far."""
    if best is None:
        return math.inf
    return value - best if metric in METRICS and METRICS[metric].higher_is_better else best - value


def _generation_figures(setup: Setup, names: Sequence[str]) -> dict[str, dict[str, float]]:
    sources = [example.input_ids.tolist() for example in setup.eval_set]
    answers = answer(setup.bank, list(names), sources, setup.generation)
    decode = setup.bank.base.tokenizer.batch_decode
    figures = {}
    for name in names:
        texts = decode(answers[name], skip_special_tokens=True)
        figures[name] = {key: metric.compute(texts, setup.eval_references) for key, metric in METRICS.items()}
    return figures


def _copy(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}


def _leave_if_ended(setup: Setup, trainee: Trainee, state: TrainingState, report: Report) -> None:
    """An experiment that has taken its last step leaves the bank; its best becomes its adapter."""
    progress, tensors, bank = trainee.progress, state.tensors[trainee.name], setup.bank
    if progress.status == "training" and progress.step >= trainee.timetable.total_steps:
        progress.status = "done"
    if not progress.has_ended:
        return
    if not tensors.best:  # never evaluated: the last is the best there is
        tensors.best = _copy(bank.tensors(trainee.name))
        progress.best_step = progress.step
    tensors.current, tensors.optimizer = {}, {}
    if len(setup.retain_set) and progress.status != "failed":
        _measure_forgetting(setup, trainee, tensors.best)
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


def _measure_forgetting(setup: Setup, trainee: Trainee, best: dict[str, torch.Tensor]) -> None:
    """By how much the best adapter's loss on the retained rows is above the base's; too much is a failure."""
    progress, limit = trainee.progress, trainee.experiment.training.max_forgetting
    setup.bank.load(trainee.name, best)
    size = setup.shared.per_device_eval_batch_size
    losses = eval_losses(setup.bank, [BASE, trainee.name], setup.retain_set, batch_size=size)
    progress.forgetting = losses[trainee.name] - losses[BASE]
    if limit is not None and not progress.forgetting <= limit:
        progress.status = "failed"
        progress.reason = (
            f"it forgets: the loss on data.retain rose by {progress.forgetting:.3f}, "
            f"and max_forgetting allows {limit:g}"
        )


def export(setup: Setup, state: TrainingState, name: str) -> None:
    """Write an experiment's best adapter to the run's `adapters/`."""
    experiment = next(e for e in setup.experiments if e.name == name)
    progress, base = state.progress[name], setup.bank.base
    origin: dict[str, Any] = {
        "experiment": name,
        "model_type": base.model.config.model_type,
        "head_is_tied": base.head_is_tied,
        "best_step": progress.best_step,
        "best_metric": progress.best_metric,
        "metric_for_best_model": experiment.training.metric_for_best_model,
    }
    write_adapter(
        setup.run.adapters / name,
        base=base,
        settings=experiment.lora,
        tensors=state.tensors[name].best,
        available=setup.bank.available,
        origin=origin,
        card=_card(setup, name, state.tensors[name].best, origin),
    )


def _card(setup: Setup, name: str, tensors: dict[str, torch.Tensor], origin: dict[str, Any]) -> str:
    """The adapter's README, from the run's own files; where they are gone, that must not cost the adapter."""
    base = setup.bank.base
    adapted = sorted({tensor.rpartition(".")[0] for tensor in tensors})
    named = {"base": portable_name(base.name), "base_fingerprint": base.fingerprint, **origin}
    try:
        facts = read_facts(setup.run, name, named, peft_target_modules(adapted, setup.bank.available))
    except (LoRALoomError, OSError):
        return ""
    return adapter_card(facts)


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

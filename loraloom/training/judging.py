"""Held-out rows decide: which adapter of an experiment is its best, when it stops, what it forgot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from loraloom.bank.rows import BASE
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.evaluate.metrics import METRICS
from loraloom.run import Report
from loraloom.training.setup import Setup, Trainee
from loraloom.training.state import TrainingState


def evaluate(setup: Setup, due: Sequence[Trainee], state: TrainingState, report: Report) -> None:
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
            state.tensors[trainee.name].best = copy_tensors(setup.bank.tensors(trainee.name))
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


def copy_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of their own on the CPU, which training does not change any more."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}


def measure_forgetting(setup: Setup, trainee: Trainee, best: dict[str, torch.Tensor]) -> None:
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

"""Held-out rows decide: which adapter of an experiment is its best, when it stops, what it forgot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from loraloom.bank.ownership import BASE
from loraloom.base.answer_text import sentinels_in
from loraloom.evaluate.generation import cut_words
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.scoring import score_against
from loraloom.run.events import Evaluation, Note, Report
from loraloom.training.held_out import SignalCameError, held_out_answers, held_out_losses
from loraloom.training.setup import Setup, Trainee
from loraloom.training.state import TrainingState


def evaluate(setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    """Evaluate those that are due in one pass; remember each one's best adapter.

    Where a signal comes nobody is judged, and `state.unfinished` stays as it is, for the resume.
    """
    due = [t for t in trainees if t.name in state.unfinished and not t.progress.has_ended]
    if due and len(setup.eval_set):
        try:
            figures = _figures(setup, due, state, report)
        except SignalCameError:
            return
        for trainee in due:
            _judge(setup, trainee, figures[trainee.name], state, report)
    state.unfinished = []


def _figures(
    setup: Setup, due: Sequence[Trainee], state: TrainingState, report: Report
) -> dict[str, dict[str, float]]:
    """Every figure of everyone who is due."""
    losses = held_out_losses(setup, [t.name for t in due], setup.eval_set, state, report)
    wanted = [t.name for t in due if t.experiment.training.metric_for_best_model != "eval_loss"]
    more = _generation_figures(setup, wanted, state, report) if wanted else {}
    return {t.name: {"eval_loss": losses[t.name], **more.get(t.name, {})} for t in due}


def _judge(
    setup: Setup, trainee: Trainee, values: Mapping[str, float], state: TrainingState, report: Report
) -> None:
    """Whether an experiment is the best it ever was, goes on, stops or fails."""
    progress, training = trainee.progress, trainee.experiment.training
    if not all(math.isfinite(value) for value in values.values()):
        progress.fail(f"eval_loss is {values['eval_loss']} after step {progress.step}")
        return
    report(
        Evaluation(
            step=state.tick,
            experiment=trainee.name,
            experiment_step=progress.step,
            epoch=round(progress.step / trainee.timetable.steps_per_epoch, 4),
            figures=values,
        )
    )
    metric = training.metric_for_best_model
    gain = _gain(metric, values[metric], progress.best_metric)
    if gain > 0:
        progress.best_metric, progress.best_step = values[metric], progress.step
        state.tensors[trainee.name].best = copy_tensors(setup.bank.tensors(trainee.name))
    improved = gain > training.early_stopping_threshold
    progress.evaluations_without_improvement = 0 if improved else progress.evaluations_without_improvement + 1
    patience = training.early_stopping_patience
    if patience is not None and progress.evaluations_without_improvement >= patience:
        progress.status = "stopped"
        progress.reason = f"no better {metric} in {patience} evaluations"


def _gain(metric: str, value: float, best: float | None) -> float:
    """By how much a figure is better than the best so far."""
    if best is None:
        return math.inf
    return value - best if metric in METRICS and METRICS[metric].higher_is_better else best - value


def _generation_figures(
    setup: Setup, names: Sequence[str], state: TrainingState, report: Report
) -> dict[str, dict[str, float]]:
    answers = held_out_answers(setup, names, setup.eval_set, state, report)
    limit = setup.generation.max_new_tokens
    if said := cut_words({name: [len(row) for row in answers[name]] for name in names}, limit):
        report(Note(step=state.tick, message=said))
    answer_text = setup.bank.base.answer_text
    scoring, kept = score_against(setup.eval_references, answer_text), sentinels_in(setup.eval_references)
    return {name: scoring.figures(answer_text.texts(answers[name], kept)) for name in names}


def copy_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of their own on the CPU, which training does not change any more."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}


def measure_forgetting(setup: Setup, trainee: Trainee, state: TrainingState, report: Report) -> bool:
    """By how much the best adapter's loss on the retained rows is above the base's; too much is a failure.

    Returns:
        Whether it is known; where a signal came it is not, and `state.unfinished` has the experiment.
    """
    progress, limit = trainee.progress, trainee.experiment.training.max_forgetting
    setup.bank.load(trainee.name, state.tensors[trainee.name].best)
    try:
        losses = held_out_losses(setup, [BASE, trainee.name], setup.retain_set, state, report)
    except SignalCameError:
        state.unfinished.append(trainee.name)
        return False
    if not math.isfinite(losses[trainee.name]):
        progress.fail(f"the loss on data.retain is {losses[trainee.name]}")
        return True
    progress.retain_loss = losses[trainee.name]
    progress.forgetting = losses[trainee.name] - losses[BASE]
    if limit is not None and progress.forgetting > limit:
        progress.fail(
            f"it forgets: the loss on data.retain rose by {progress.forgetting:.3f}, "
            f"and max_forgetting allows {limit:g}"
        )
    return True

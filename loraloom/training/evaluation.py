"""Evaluation on held-out rows: each experiment's best adapter, early stopping and forgetting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from loraloom.base.answer_text import sentinels_in
from loraloom.data.languages.codes import encoded_rows_of_pairs
from loraloom.data.ownership import BASE
from loraloom.evaluate.generation import cut_words
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.scoring import score_against
from loraloom.run.documents.result import RetainLoss
from loraloom.run.events import Evaluation, Note
from loraloom.text.message import Message
from loraloom.training.engine import Engine, SignalReceivedError, Trainee
from loraloom.training.held_out import held_out_answers, held_out_losses


def evaluate(engine: Engine) -> None:
    """Evaluate all trainees whose evaluation is due, and keep the best adapter of each.

    If a signal arrives, the results are discarded; `state.unfinished` still lists the trainees, so that they
    are evaluated when the run is resumed.
    """
    state = engine.state
    due = [t for t in engine.trainees if t.name in state.unfinished and not t.progress.has_ended]
    if due and len(engine.setup.eval_set):
        try:
            figures = _figures(engine, due)
        except SignalReceivedError:
            return
        for trainee in due:
            _decide(engine, trainee, figures[trainee.name])
    state.unfinished = []


def _figures(engine: Engine, due: Sequence[Trainee]) -> dict[str, dict[str, float]]:
    """Return each trainee's eval loss, and its generation metrics if one of them selects its best adapter."""
    losses = held_out_losses(engine, [t.name for t in due], engine.setup.eval_set)
    wanted = [t.name for t in due if t.experiment.training.metric_for_best_model != "eval_loss"]
    more = _generation_figures(engine, wanted) if wanted else {}
    return {t.name: {"eval_loss": losses[t.name], **more.get(t.name, {})} for t in due}


def _decide(engine: Engine, trainee: Trainee, values: Mapping[str, float]) -> None:
    """Decide whether an adapter is the best so far, and whether its experiment continues."""
    progress, training = trainee.progress, trainee.experiment.training
    for name, value in values.items():
        if not math.isfinite(value):
            what = Message("{name} is {value} after step {step}", name=name, value=value, step=progress.step)
            progress.fail(what)
            return
    engine.report(
        Evaluation(
            step=engine.state.tick,
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
        trainee.tensors.best = copy_tensors(engine.bank.tensors(trainee.name))
    improved = gain > training.early_stopping_threshold
    progress.evaluations_without_improvement = 0 if improved else progress.evaluations_without_improvement + 1
    patience = training.early_stopping_patience
    if patience is not None and progress.evaluations_without_improvement >= patience:
        progress.status = "stopped"
        progress.reason = Message(
            "{metric} has not improved in {patience} evaluations", metric=metric, patience=patience
        )


def _gain(metric: str, value: float, best: float | None) -> float:
    """Return how much better a value is than the best so far; infinity if it is the first value."""
    if best is None:
        return math.inf
    return value - best if metric in METRICS and METRICS[metric].higher_is_better else best - value


def _generation_figures(engine: Engine, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Generate answers to the eval rows and compute their metrics."""
    setup = engine.setup
    answers = held_out_answers(engine, names, setup.eval_set)
    limit = setup.generation.max_new_tokens
    if message := cut_words({name: [len(row) for row in answers[name]] for name in names}, limit):
        engine.report(Note(step=engine.state.tick, message=message))
    answer_text = setup.bank.base.answer_text
    scoring, kept = score_against(setup.eval_references, answer_text), sentinels_in(setup.eval_references)
    return {name: scoring.figures(answer_text.texts(answers[name], kept)) for name in names}


def copy_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors to the CPU, so that training no longer changes them."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}


def _retain_losses(engine: Engine, name: str) -> tuple[RetainLoss, dict[str, RetainLoss]]:
    """Compute an adapter's loss and forgetting on `data.retain`: on all rows, and for each language pair.

    Raises:
        SignalReceivedError: a signal arrived.
    """
    slots, rows = [BASE, name], engine.setup.retain_set
    if (languages := engine.bank.base.languages) is None:
        found = held_out_losses(engine, slots, rows)
        return RetainLoss.of(found[name], found[BASE]), {}
    pairs = encoded_rows_of_pairs(((row.input_ids.tolist(), row.labels.tolist()) for row in rows), languages)
    losses, num_labels = {}, {}
    for pair, numbers in pairs.items():
        own = rows.chosen(numbers)
        losses[pair], num_labels[pair] = held_out_losses(engine, slots, own), int(own.target_lengths.sum())
    # Weighted by label tokens, this is the loss over all rows.
    total = {
        slot: sum(num_labels[pair] * losses[pair][slot] for pair in pairs) / sum(num_labels.values())
        for slot in slots
    }
    of_pairs = {pair: RetainLoss.of(found[name], found[BASE]) for pair, found in losses.items()}
    return RetainLoss.of(total[name], total[BASE]), of_pairs


def measure_forgetting(engine: Engine, trainee: Trainee) -> bool:
    """Measure how much the best adapter raises the loss on `data.retain`; if too much, fail the experiment.

    Returns:
        True if it was measured; False if a signal arrived, and the experiment is now in `state.unfinished`.
    """
    progress, limit = trainee.progress, trainee.experiment.training.max_forgetting
    engine.bank.load(trainee.name, trainee.tensors.best)
    try:
        losses, of_pairs = _retain_losses(engine, trainee.name)
    except SignalReceivedError:
        engine.state.unfinished.append(trainee.name)
        return False
    if not math.isfinite(losses.loss):
        progress.fail(Message("the loss on data.retain is {loss}", loss=losses.loss))
        return True
    progress.retain_loss, progress.forgetting = losses.loss, losses.forgetting
    progress.retain_pairs = of_pairs
    if limit is not None and progress.forgetting > limit:
        progress.fail(
            Message(
                "the adapter forgets: the loss on data.retain rose by {forgetting:.3f}, but max_forgetting "
                "allows only {limit:g}",
                forgetting=progress.forgetting,
                limit=limit,
            )
        )
    return True

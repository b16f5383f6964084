"""Figures of a comparison, with differences, movement, summary sentences and a recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.comparison.language_pairs import only_rows, pairs_compared, retain_losses, with_forgetting
from loraloom.comparison.partial_answers import Answers
from loraloom.data.files.part_files import PartContents
from loraloom.data.prompts.prompts import Prompt
from loraloom.evaluate import comparison, conclusions
from loraloom.evaluate.metrics import Metric
from loraloom.evaluate.scoring import Scoring, score_against
from loraloom.run.documents.comparison import BASE_NAME, Comparison, ModelRecord, Recommendation
from loraloom.session.answering_model import AnsweringModel
from loraloom.text.message import Message


def with_figures(
    result: Comparison,
    loaded: AnsweringModel,
    rows: Sequence[Prompt],
    answers: Answers,
    targets: Sequence[Sequence[int]],
    retained: PartContents | None,
    more: Mapping[str, Metric],
) -> Comparison:
    """Return a comparison with figures, differences, movement, summary sentences and a recommendation.

    Figures cover the rows with a known answer, or all rows if there is no row with a known answer.

    Args:
        result: the comparison before its figures are computed.
        loaded: the models that answered.
        rows: all rows.
        answers: the answers of each model to all rows.
        targets: token ids of each row's known answer; an empty list for a row without one.
        retained: the rows to measure forgetting on; None if forgetting is not measured.
        more: metrics to compute in addition to the usual ones.
    """
    judged = [number for number, target in enumerate(targets) if target]
    references = [rows[number].response or "" for number in judged] if judged else None
    scoring = None if references is None else score_against(references, loaded.base.answer_text, more)
    num_labels = [len(targets[number]) for number in judged]
    if judged:
        answers = {model: only_rows(own, judged) for model, own in answers.items()}
    num_rows = len(judged) or len(rows)
    of_retained, retained_pairs = retain_losses(loaded, retained)
    models = _models(loaded, answers, scoring, num_labels, of_retained)
    groups = _groups(loaded)
    if result.what == "prompts":
        where = Message.counting("{count} prompt", "{count} prompts", count=num_rows)
    else:
        where = Message.counting(
            "{count} {what} row", "{count} {what} rows", count=num_rows, what=result.what
        )
    evidence = None
    if scoring is not None:
        evidence = comparison.compute_evidence(answers, groups, scoring, num_labels)
    num_questions = len({rows[number].source for number in judged or range(len(rows))})
    sentences = [
        conclusions.sentence(
            group,
            _mean([models[name].figures for name in names]),
            [moved for name in names if (moved := models[name].movement) is not None],
            evidence,
            where,
            conclusions.alike([answers[name].texts for name in names], num_questions),
        )
        for group, names in groups.items()
        if group != BASE_NAME
    ]
    result = result.replaced(sentences=sentences, models=models)
    if loaded.base.languages is not None:
        by_pair = pairs_compared(loaded, [rows[n] for n in judged], answers, num_labels, groups, more)
        result = result.replaced(languages=with_forgetting(by_pair, retained_pairs, retained))
    if scoring is None or evidence is None:
        return result
    sizes = {group: _size(loaded, names) for group, names in groups.items() if group != BASE_NAME}
    choice, why = conclusions.recommendation(evidence, sizes, where)
    return result.replaced(
        signatures=scoring.signatures,
        groups=comparison.group_records(evidence, groups),
        differences=evidence.differences,
        pairs=evidence.pairs,
        ranking=conclusions.ranking(evidence),
        recommendation=Recommendation(experiment=choice, sentence=why),
    )


def _models(
    loaded: AnsweringModel,
    answers: Answers,
    scoring: Scoring | None,
    num_labels: Sequence[int],
    losses: Mapping[str, float],
) -> dict[str, ModelRecord]:
    """Compute the figures of every model, and the movement of every adapter."""
    limit = loaded.recipe.generation.max_new_tokens
    records = {}
    for model, own in answers.items():
        figures = comparison.figures(own, answers[BASE_NAME], scoring, num_labels, limit)
        if model in losses:
            figures["retain_loss"] = losses[model]
        moved = {"movement": loaded.passes.movement(model)} if model in loaded.adapters else {}
        records[model] = ModelRecord(figures=figures, **moved)
    return records


def _groups(loaded: AnsweringModel) -> dict[str, list[str]]:
    """Map each experiment to its adapters, one per seed; the first entry maps the base to itself."""
    groups: dict[str, list[str]] = {BASE_NAME: [BASE_NAME]}
    for experiment in loaded.recipe.resolved_experiments:
        if experiment.name in loaded.adapters:
            groups.setdefault(experiment.group, []).append(experiment.name)
    return groups


def _mean(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: sum(own[key] for own in figures) / len(figures) for key in figures[0]}


def _size(loaded: AnsweringModel, names: Sequence[str]) -> int:
    return sum(tensor.numel() for tensor in loaded.adapters[names[0]].tensors.values())

"""Statistical evidence from answers: figures of the models and differences between them, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from loraloom.evaluate.metrics import DESCRIPTIONS, Numbers, share_changed
from loraloom.evaluate.scoring import Scoring
from loraloom.evaluate.statistics import (
    Draws,
    corrected,
    difference,
    draw_figures,
    over_seeds,
)
from loraloom.run.documents.comparison import (
    BASE_NAME,
    DECIDING,
    Difference,
    FigureInterval,
    GroupRecord,
)


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of one model to all rows.

    Args:
        texts: its answers.
        num_tokens: number of tokens of each answer, without EOS.
        losses: summed loss of each row's reference; 0 for a row without one.
    """

    texts: list[str] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """Figures of the experiments and differences between them, each with its confidence interval.

    Args:
        groups: experiment → metric → figure, with its resampled values; the base counts as an experiment.
        differences: the difference of each experiment from the base, in every metric.
        pairs: the difference within each pair of experiments in the deciding metric, corrected for multiple
            comparisons.
    """

    groups: dict[str, dict[str, Draws]]
    differences: list[Difference]
    pairs: list[Difference]


def figures(
    answers: ModelAnswers,
    base: ModelAnswers,
    scoring: Scoring | None,
    num_labels: Sequence[int],
    max_new_tokens: int,
) -> dict[str, float]:
    """Compute the figures of one model over all rows.

    Args:
        answers, base: answers of the model and of the base.
        scoring: scores answers against the rows' references; None if the rows have none.
        num_labels: number of label tokens of each row's reference.
        max_new_tokens: maximum length of an answer, in tokens.

    Returns:
        Name → figure; the loss and the metrics only with `scoring`.
    """
    found: dict[str, float] = {}
    if scoring is not None:
        found["eval_loss"] = sum(answers.losses) / sum(num_labels)
        found |= scoring.figures(answers.texts)
    found["share_changed"] = share_changed(answers.texts, base.texts)
    found |= {name: describe(answers.texts) for name, describe in DESCRIPTIONS.items()}
    found["share_cut"] = sum(n >= max_new_tokens for n in answers.num_tokens) / len(answers.num_tokens)
    return found


def compute_evidence(
    models: Mapping[str, ModelAnswers],
    groups: Mapping[str, Sequence[str]],
    scoring: Scoring,
    num_labels: Sequence[int],
) -> Evidence:
    """Compute intervals for every experiment, and its differences from the base and the other experiments.

    Args:
        models: answers of each model; the base is one of them.
        groups: experiment → names of its models, one for each seed; the base is a group of its own.
        scoring, num_labels: as in `figures`.
    """
    drawn: dict[str, dict[str, Draws]] = {group: {} for group in groups}
    directions: dict[str, bool | None] = {"eval_loss": False}
    directions |= {name: metric.higher_is_better for name, metric in scoring.metrics.items()}
    for metric in directions:
        statistics, figure = _statistics(metric, models, scoring, num_labels)
        draws = draw_figures(statistics, figure)
        for group, names in groups.items():
            drawn[group][metric] = over_seeds([draws[name] for name in names])
    others = [group for group in groups if group != BASE_NAME]
    unchanged = {
        group: all(models[name].texts == models[BASE_NAME].texts for name in groups[group])
        for group in others
    }
    differences = [
        difference(
            drawn[group][metric],
            drawn[BASE_NAME][metric],
            names=(group, BASE_NAME),
            metric=metric,
            higher_is_better=direction,
            nothing_changed=unchanged[group] and metric != "eval_loss",
        )
        for group in others
        for metric, direction in directions.items()
    ]
    pairs = [
        difference(
            drawn[a][DECIDING],
            drawn[b][DECIDING],
            names=(a, b),
            metric=DECIDING,
            higher_is_better=True,
            nothing_changed=unchanged[a] and unchanged[b],
        )
        for a, b in combinations(others, 2)
    ]
    return Evidence(drawn, differences, corrected(pairs, higher_is_better=True))


def _statistics(
    metric: str, models: Mapping[str, ModelAnswers], scoring: Scoring, num_labels: Sequence[int]
) -> tuple[dict[str, Numbers], Callable[[Numbers], Numbers]]:
    if metric == "eval_loss":
        labels = np.array(num_labels, dtype=np.float64)
        found = {name: np.column_stack([np.array(own.losses), labels]) for name, own in models.items()}
        return found, lambda sums: np.asarray(sums[..., 0] / sums[..., 1])
    known = scoring.metrics[metric]
    references = scoring.references
    return {name: known.statistics(own.texts, references) for name, own in models.items()}, known.figure


def group_records(evidence: Evidence, groups: Mapping[str, Sequence[str]]) -> dict[str, GroupRecord]:
    """Convert the figures of the experiments and their intervals to records for compare/<name>.json."""
    return {
        group: GroupRecord(
            models=list(groups[group]),
            figures={
                metric: FigureInterval(
                    mean=own.value, low=own.interval[0], high=own.interval[1], sd=own.deviation
                )
                for metric, own in drawn.items()
            },
        )
        for group, drawn in evidence.groups.items()
    }

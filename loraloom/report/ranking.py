"""The ranking of experiments, best first: the size and certainty of their advantage, and their cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loraloom.report.comparison_view import ComparisonView
from loraloom.report.training_view import TrainingView
from loraloom.run.documents.comparison import BASE_NAME, DECIDING, Difference


@dataclass(frozen=True)
class Cost:
    """Cost of an experiment, over all its seeds.

    Args:
        num_tokens: number of source and target tokens trained on.
        seconds: training time; the time of a shared step is divided in proportion to tokens.
        share: its fraction of the training time of all experiments.
        num_weights, num_bytes: size of one adapter, as a number of weights and of bytes.
    """

    num_tokens: int
    seconds: float | None
    share: float | None
    num_weights: int | None
    num_bytes: int | None


@dataclass(frozen=True)
class Forgetting:
    """Loss on `data.retain` without and with the adapter, averaged over seeds."""

    before: float
    after: float


@dataclass(frozen=True)
class Place:
    """One line of the ranking.

    Args:
        experiment: name of the experiment.
        value: mean of the ranking's metric over seeds.
        deviation: standard deviation over seeds; None if there is only one seed.
        interval: 95 % interval of the value; None if nothing was compared.
        from_base: its difference from the base; None if nothing was compared.
        from_best: its difference from the best experiment; None for the best, or if nothing was compared.
        word: its verdict, such as `better`; "" if nothing was compared.
        cost: cost of its training, and size of its adapter.
        forgotten: its losses on `data.retain`; None if nothing was retained.
    """

    experiment: str
    value: float
    deviation: float | None
    interval: tuple[float, float] | None
    from_base: Difference | None
    from_best: Difference | None
    word: str
    cost: Cost
    forgotten: Forgetting | None


@dataclass(frozen=True)
class Ranking:
    """The experiments, best first.

    Args:
        metric: the metric by which they are ranked.
        is_judged: whether the metric was computed on compared answers; otherwise on the eval rows, which
            selected the checkpoints, and without an interval.
        places: the experiments except failed ones.
    """

    metric: str
    is_judged: bool
    places: list[Place]


def rank(trained: Sequence[TrainingView], compared: ComparisonView | None) -> Ranking | None:
    """Rank the experiments by the comparison or, without one, by the metric that selected checkpoints.

    Returns:
        The ranking; None if there are fewer than two experiments to rank, or no common metric.
    """
    costs = costs_of(trained)
    forgotten = _forgotten(trained, compared)
    if compared is not None and DECIDING in compared.figures[BASE_NAME]:
        places = [_judged(name, compared, costs, forgotten) for name in compared.ranking]
        return Ranking(DECIDING, True, places) if len(places) > 1 else None
    figures = _best_figures(trained)
    metrics = {each.metric for each in trained if each.group in figures}
    if len(metrics) != 1 or len(figures) < 2:
        return None
    metric = metrics.pop()
    sign = 1 if metric == "eval_loss" else -1
    return Ranking(
        metric,
        False,
        [
            _unjudged(name, figures[name], costs, forgotten)
            for name in sorted(figures, key=lambda name: sign * statistics.fmean(figures[name]))
        ],
    )


def costs_of(trained: Sequence[TrainingView]) -> dict[str, Cost]:
    """Compute the cost of each experiment, by name."""
    together = sum(each.seconds or 0.0 for each in trained)
    return {group: _cost(own, together) for group, own in _by_group(trained).items()}


def _cost(own: Sequence[TrainingView], together: float) -> Cost:
    known = [each.seconds for each in own if each.seconds is not None]
    adapter = next((each.adapter for each in own if each.adapter), None)
    return Cost(
        num_tokens=sum(each.num_tokens for each in own),
        seconds=sum(known) if known else None,
        share=sum(known) / together if known and together else None,
        num_weights=adapter.num_weights if adapter else None,
        num_bytes=adapter.num_bytes if adapter else None,
    )


def _by_group(trained: Iterable[TrainingView]) -> dict[str, list[TrainingView]]:
    groups: dict[str, list[TrainingView]] = {}
    for each in trained:
        groups.setdefault(each.group, []).append(each)
    return groups


def _best_figures(trained: Sequence[TrainingView]) -> dict[str, list[float]]:
    """Map each experiment to the metrics at its seeds' kept checkpoints; omit it if a seed has none."""
    figures = {}
    for group, own in _by_group(trained).items():
        known = [each.best_metric for each in own if each.best_metric is not None and each.metric]
        if len(known) == len(own):
            figures[group] = known
    return figures


def _forgotten(trained: Sequence[TrainingView], compared: ComparisonView | None) -> dict[str, Forgetting]:
    """Return each experiment's losses on `data.retain`: those of training, or else of the comparison."""
    found = {}
    for group, own in _by_group(trained).items():
        after = [each.retain_loss for each in own if each.retain_loss is not None]
        rises = [each.forgetting for each in own if each.forgetting is not None]
        if after and len(after) == len(rises) == len(own):
            mean = statistics.fmean(after)
            found[group] = Forgetting(mean - statistics.fmean(rises), mean)
    if compared is not None:
        before = compared.figures[BASE_NAME].get("retain_loss")
        for group in compared.experiments:
            after_now = compared.figures[group].get("retain_loss")
            if before is not None and after_now is not None:
                found.setdefault(group, Forgetting(before, after_now))
    return found


_NO_COST = Cost(0, None, None, None, None)


def _judged(
    name: str, compared: ComparisonView, costs: Mapping[str, Cost], forgotten: Mapping[str, Forgetting]
) -> Place:
    return Place(
        experiment=name,
        value=compared.figures[name][DECIDING],
        deviation=compared.deviations.get(name, {}).get(DECIDING),
        interval=compared.intervals.get(name, {}).get(DECIDING),
        from_base=compared.differences[name].get(DECIDING),
        from_best=_between(compared.pairs, name, compared.ranking[0]),
        word=next(verdict.word for verdict in compared.verdicts if verdict.experiment == name),
        cost=costs.get(name, _NO_COST),
        forgotten=forgotten.get(name),
    )


def _between(pairs: Iterable[Difference], name: str, other: str) -> Difference | None:
    """Find the difference between two experiments, `name` minus `other`; None if there is none."""
    for pair in pairs:
        if (pair.model, pair.against) == (name, other):
            return pair
        if (pair.model, pair.against) == (other, name):
            return pair.turned
    return None


def _unjudged(
    name: str, own: Sequence[float], costs: Mapping[str, Cost], forgotten: Mapping[str, Forgetting]
) -> Place:
    return Place(
        experiment=name,
        value=statistics.fmean(own),
        deviation=statistics.stdev(own) if len(own) > 1 else None,
        interval=None,
        from_base=None,
        from_best=None,
        word="",
        cost=costs[name],
        forgotten=forgotten.get(name),
    )

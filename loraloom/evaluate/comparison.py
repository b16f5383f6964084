"""From answers to evidence: figures, differences, verdicts and a recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from loraloom.evaluate.metrics import DESCRIPTIONS, Numbers, share_changed
from loraloom.evaluate.scoring import Scoring
from loraloom.evaluate.statistics import (
    FEWEST_ROWS,
    Draws,
    corrected,
    difference,
    draw_figures,
    over_seeds,
)
from loraloom.run.documents.comparison import (
    BASE_NAME,
    CLEAR,
    DECIDING,
    Difference,
    FigureInterval,
    GroupRecord,
    Movement,
)
from loraloom.text.message import Message
from loraloom.text.units import percent

# Below this, an adapter's ΔW is lost in the precision of W (float32 has seven digits).
UNMOVED = 1e-6


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
    """Figures and differences with their intervals.

    Args:
        groups: `{experiment: {metric: draws}}`, over its seeds; the base is one of them.
        differences: each experiment against the base, in every metric.
        pairs: each experiment against each other in the deciding metric, corrected for multiplicity.
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
        scoring: scores answers against the rows' responses; None if there are none.
        num_labels: number of label tokens of each row's reference.
        max_new_tokens: maximum length of an answer, in tokens.
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
    """Compute intervals for every experiment, and its differences from the base and the others.

    Args:
        models: answers of each model; the base is one of them.
        groups: experiment → models of its seeds; the group of the base is itself.
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


def ranking(evidence: Evidence) -> list[str]:
    """Rank the experiments, best first, by the deciding metric."""
    names = [group for group in evidence.groups if group != BASE_NAME]
    return sorted(names, key=lambda name: -evidence.groups[name][DECIDING].value)


def recommendation(evidence: Evidence, sizes: Mapping[str, int], where: str) -> tuple[str | None, str]:
    """Choose an experiment, and justify it in a sentence; None if the rows do not decide.

    They do not decide if no experiment is better than the base, or none is better than another. Otherwise
    the choice is the smallest adapter among those that are not significantly worse than the best.

    Args:
        sizes: number of weights of each experiment's adapter.
        where: name of the rows, such as `150 test rows`.
    """
    better = {d.model for d in evidence.differences if d.metric == DECIDING and d.verdict == "better"}
    ranked = ranking(evidence)
    candidates = [name for name in ranked if name in better]
    if any(d.verdict == "too few rows" for d in evidence.differences):
        return None, Message(
            "{where} are too few for a recommendation; at least {fewest_rows} are needed.",
            where=where,
            fewest_rows=FEWEST_ROWS,
        )
    if not candidates:
        return None, Message("No configuration answers better than the base on {where}.", where=where)
    best = candidates[0]
    rivals = [name for name in ranked if name == best or not _is_clear(evidence, best, name)]
    choice = min((n for n in rivals if n in better), key=lambda name: (sizes[name], ranked.index(name)))
    score, top = (f"{evidence.groups[name][DECIDING].value:.1f}" for name in (choice, best))
    if len(rivals) == 1:
        note = "" if len(ranked) == 1 else Message(", significantly better than every other")
        return choice, Message(
            "Use {choice}: chrF {score} on {where}{note}.", choice=choice, score=score, where=where, note=note
        )
    if not any(pair.verdict in CLEAR for pair in evidence.pairs):
        return None, (
            Message(
                "No configuration is better than another here: on {where}, none of their "
                "differences in chrF is significant. The smallest adapter that answers better than "
                "the base is {choice} (chrF {score}).",
                where=where,
                choice=choice,
                score=score,
            )
        )
    if choice == best:
        others = ", ".join(name for name in rivals if name != choice)
        return choice, (
            Message(
                "Use {choice}: it has the highest chrF ({score}) on {where}, although not "
                "significantly higher than {others}, and no smaller adapter does as well.",
                choice=choice,
                score=score,
                where=where,
                others=others,
            )
        )
    return choice, (
        Message(
            "Use {choice}. On {where} its chrF ({score}) is not significantly below the best, "
            "{best} ({top}), and its adapter is the smallest of these.",
            choice=choice,
            where=where,
            score=score,
            best=best,
            top=top,
        )
    )


def _is_clear(evidence: Evidence, best: str, other: str) -> bool:
    pair = next(d for d in evidence.pairs if {d.model, d.against} == {best, other})
    return pair.verdict in CLEAR


def sentence(
    name: str, own: Mapping[str, float], moved: Sequence[Movement], evidence: Evidence | None, where: str
) -> str:
    """Describe the effect of one experiment in a sentence, first of all if it had none.

    Args:
        name: name of the experiment.
        own: its figures, averaged over its seeds.
        moved: how far each of its adapters moved the base.
        evidence: None if there are no references.
        where: name of the rows, such as `150 test rows`.
    """
    if own["share_changed"] == 0:
        total = max(movement.total for movement in moved)
        how = (
            Message("its ΔW is lost in the precision of W")
            if total < UNMOVED
            else Message("‖ΔW‖ is {total:.2g} of ‖W‖", total=total)
        )
        return Message(
            "{name} did nothing: no answer differs from the base's on {where} ({how}).",
            name=name,
            where=where,
            how=how,
        )
    changed = Message(
        "{share_changed} of its answers differ from the base's", share_changed=percent(own["share_changed"])
    )
    if evidence is None:
        return Message(
            "{name}: {changed} on {where}; without references, it is unknown which are better.",
            name=name,
            changed=changed,
            where=where,
        )
    chrf = next(d for d in evidence.differences if d.model == name and d.metric == DECIDING)
    digits = 1 if max(abs(chrf.low), abs(chrf.high)) >= 1 else 2
    middle, low, high = (f"{value:+.{digits}f}" for value in (chrf.difference, chrf.low, chrf.high))
    interval = Message("{middle}, 95 % interval {low} to {high}", middle=middle, low=low, high=high)
    ours, base = (evidence.groups[group][DECIDING].value for group in (name, BASE_NAME))
    verdict = {
        "better": Message("answers better than the base"),
        "worse": Message("answers worse than the base"),
        "no significant difference": Message("shows no significant difference from the base"),
        "too few rows": Message("cannot be judged on fewer than {fewest_rows} rows", fewest_rows=FEWEST_ROWS),
        "nothing changed": Message("changed nothing"),
    }[chrf.verdict]
    far = Message("‖ΔW‖ is {moved:.2g} of ‖W‖", moved=max(movement.total for movement in moved))
    return Message(
        "{name} {verdict}: chrF {ours:.1f} against {base:.1f} ({interval}) on {where}; {changed} ({far}).",
        name=name,
        verdict=verdict,
        ours=ours,
        base=base,
        interval=interval,
        where=where,
        changed=changed,
        far=far,
    )


def group_records(evidence: Evidence, groups: Mapping[str, Sequence[str]]) -> dict[str, GroupRecord]:
    """Convert the figures of the experiments and their intervals for compare/<name>.json."""
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

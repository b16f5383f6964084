"""Effects of settings: pairs of experiments that differ in only one setting, and means per value.

Two experiments that differ only in one setting show its effect, with an interval. A mean over experiments
that also differ in other settings includes the effects of those settings; the report then says so.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.recipe import Recipe
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.ranking import Ranking
from loraloom.run.documents.comparison import CLEAR, Difference
from loraloom.run.documents.search import Parameters
from loraloom.text.message import Message


@dataclass(frozen=True)
class Level:
    """One value of a setting, and the results of the experiments or of the search's trials that have it.

    Args:
        value: the value, as in the recipe.
        experiments: names of the experiments or trials that have it.
        mean: mean over these experiments or trials of the metric by which the ranking or search orders them.
        deviation: standard deviation over the experiments, or over the seeds of a single experiment; None
            for a single seed or trial.
    """

    value: Any
    experiments: list[str]
    mean: float
    deviation: float | None

    @classmethod
    def of(cls, value: Any, figures: Mapping[str, float], deviation_of_one: float | None = None) -> Level:
        """Compute the level from the experiments' figures.

        Args:
            deviation_of_one: standard deviation over seeds, used if only one experiment has the value.
        """
        own = list(figures.values())
        deviation = statistics.stdev(own) if len(own) > 1 else deviation_of_one
        return cls(value, list(figures), statistics.fmean(own), deviation)


@dataclass(frozen=True)
class Contrast:
    """Two experiments that differ in a single setting, and the difference between their figures.

    Args:
        value, other: the setting's values in the first and the second experiment.
        difference: figure of the first experiment minus that of the second.
    """

    value: Any
    other: Any
    difference: Difference


@dataclass(frozen=True)
class Effect:
    """One setting that differs between experiments.

    Args:
        key: dotted name of the setting, such as `lora.r`.
        levels: its values, in order, each with its results.
        contrasts: pairs of experiments that differ in this setting only, and so show its effect alone.
        mixed_with: other settings that vary together with this one, so that its means include their effects.
        sentence: the conclusion, for readers.
    """

    key: str
    levels: list[Level]
    contrasts: list[Contrast]
    mixed_with: list[str]
    sentence: str


def effects_of(recipe: Recipe, ranking: Ranking | None, compared: ComparisonView | None) -> list[Effect]:
    """Determine the effect of every setting in which the ranked experiments differ.

    Args:
        recipe: recipe of the run.
        ranking: ranking that provides the figures.
        compared: comparison that provides differences with intervals.
    """
    if ranking is None:
        return []
    ranked = {place.experiment for place in ranking.places}
    settings = {name: own for name, own in settings_of(recipe).items() if name in ranked}
    pairs = compared.pairs if compared is not None and ranking.is_judged else []
    keys = [
        key
        for key in next(iter(settings.values()), {})
        if len({label_of(own[key]) for own in settings.values()}) > 1
    ]
    return [_effect(key, keys, settings, ranking, pairs) for key in keys]


def settings_of(recipe: Recipe) -> dict[str, Parameters]:
    """Map experiment → dotted key → value for all settings that an experiment may change."""
    found: dict[str, Parameters] = {}
    for experiment in recipe.resolved_experiments:
        sections = {"lora": experiment.lora.model_dump(), "training": experiment.training.model_dump()}
        flat = {f"{name}.{key}": value for name, own in sections.items() for key, value in own.items()}
        found.setdefault(experiment.group, flat | {"seed": experiment.seed})
    return found


def label_of(value: Any) -> str:
    """Convert a setting's value to text, so that lists and objects can be compared and counted too.

    >>> label_of(["q", "v"]), label_of(1e-4)
    ('["q", "v"]', '0.0001')
    """
    return json.dumps(value, sort_keys=True)


def _effect(
    key: str,
    keys: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    ranking: Ranking,
    pairs: Sequence[Difference],
) -> Effect:
    by_label: dict[str, list[str]] = {}
    for name, own in settings.items():
        by_label.setdefault(label_of(own[key]), []).append(name)
    levels = [_level(settings[names[0]][key], names, ranking) for names in by_label.values()]
    levels.sort(key=lambda level: _order(level.value))
    contrasts = [
        _contrast(pair, key, settings, [label_of(level.value) for level in levels])
        for pair in pairs
        if pair.model in settings and pair.against in settings
        if [other for other in keys if settings[pair.model][other] != settings[pair.against][other]] == [key]
    ]
    mixed_with = [other for other in keys if other != key and not _is_balanced(key, other, settings)]
    sentence = _sentence(contrasts, mixed_with, ranking.is_judged)
    return Effect(key, levels, contrasts, mixed_with, sentence)


def _level(value: Any, names: list[str], ranking: Ranking) -> Level:
    places = {place.experiment: place for place in ranking.places}
    figures = {name: places[name].value for name in names}
    return Level.of(value, figures, places[names[0]].deviation)


def _order(value: Any) -> tuple[bool, float]:
    """Sort numbers by size; keep everything else in the order of the recipe."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return not is_number, value if is_number else 0


def _contrast(
    pair: Difference, key: str, settings: Mapping[str, Mapping[str, Any]], order: Sequence[str]
) -> Contrast:
    """Make a contrast of two experiments: the one whose value is later in `order`, minus the other."""
    place = {name: order.index(label_of(settings[name][key])) for name in (pair.model, pair.against)}
    pair = pair if place[pair.model] > place[pair.against] else pair.turned
    return Contrast(settings[pair.model][key], settings[pair.against][key], pair)


def _is_balanced(key: str, other: str, settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the values of `other` occur in the same proportions at every value of `key`."""
    seen: dict[str, Counter[str]] = {}
    for own in settings.values():
        seen.setdefault(label_of(own[key]), Counter())[label_of(own[other])] += 1
    shares = [{value: n / counts.total() for value, n in counts.items()} for counts in seen.values()]
    return all(share == shares[0] for share in shares)


def _sentence(contrasts: Sequence[Contrast], mixed_with: Sequence[str], is_judged: bool) -> str:
    mixed = (
        Message(" The means mix its effect with those of {listed}.", listed=_listed(mixed_with))
        if mixed_with
        else ""
    )
    if not is_judged:
        return Message(
            "These figures are from the eval rows and have no intervals, so they are an indication, not a "
            "result.{mixed}",
            mixed=mixed,
        )
    if not contrasts:
        alone = Message("No two experiments differ only in this setting, so its effect cannot be separated.")
        return Message("{alone}{mixed}", alone=alone, mixed=mixed)
    num_clear = sum(contrast.difference.verdict in CLEAR for contrast in contrasts)
    if len(contrasts) == 1:
        subject, result = (
            Message("One pair of experiments differs"),
            (Message("significant") if num_clear else Message("not significant")),
        )
        conclusion: str = Message("the difference is {result}", result=result)
    else:
        subject = Message("{num_contrasts} pairs of experiments differ", num_contrasts=len(contrasts))
        conclusion = {
            0: Message("the difference is significant in none of them"),
            len(contrasts): Message("the difference is significant in all of them"),
        }.get(num_clear, Message("the difference is significant in {num_clear} of them", num_clear=num_clear))
    unshown = "" if num_clear else Message(" This does not show that there is no effect.")
    return Message(
        "{subject} only in this setting: {conclusion}.{unshown}{mixed}",
        subject=subject,
        conclusion=conclusion,
        unshown=unshown,
        mixed=mixed,
    )


def _listed(keys: Sequence[str]) -> str:
    named = [f"`{key}`" for key in keys]
    return (
        named[0]
        if len(named) == 1
        else Message("{named} and {named_2}", named=", ".join(named[:-1]), named_2=named[-1])
    )

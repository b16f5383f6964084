"""The charts of the report page, drawn as SVG from a run's `Content`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from markupsafe import Markup

from loraloom.report import charts, figures
from loraloom.report.content import Content
from loraloom.report.effects import Effect
from loraloom.report.scatter import Point, scatter_chart
from loraloom.report.search_view import SearchView
from loraloom.report.training_view import TrainingView
from loraloom.run.documents.range_test import RangeTest
from loraloom.run.documents.search import Trial
from loraloom.run.documents.words import shown_word
from loraloom.text import units
from loraloom.text.message import Message
from loraloom.text.visible import visible

_LINES = {
    "loss": Message("training loss"),
    "eval_loss": Message("eval loss"),
    "learning_rate": Message("learning rate"),
}
# If the values of a setting differ by this factor, they were probably chosen on a log scale.
LOG_SETTING_FROM = 8.0
# Larger or non-finite values are not settings of ours and are written unchanged.
LARGEST = 1e30


class Curves(TypedDict):
    """The charts of losses and learning rates, and what their captions need: log axes, identical lines."""

    loss_chart: Markup
    rate_chart: Markup
    is_log_loss: bool
    is_log_rate: bool
    same_rates: list[str]
    has_eval_loss: bool


def curves(content: Content) -> Curves:
    """Draw losses and learning rates by step, and return the charts with what their captions need."""
    groups = list(dict.fromkeys(each.group for each in content.experiments))
    numbered = [(groups.index(each.group), each) for each in content.experiments]
    losses = [_line(number, each, what) for what in ("loss", "eval_loss") for number, each in numbered]
    rates = [_line(number, each, "learning_rate") for number, each in numbered]
    return {
        "loss_chart": charts.line_chart(losses, label=Message("Training loss and eval loss by step")),
        "rate_chart": charts.line_chart(rates, label=Message("Learning rate by step"), compare_peaks=True),
        "is_log_loss": charts.is_log(losses, compare_peaks=False),
        "is_log_rate": charts.is_log(rates, compare_peaks=True),
        "same_rates": _same_rates(content),
        "has_eval_loss": any(each.curves.eval_loss for each in content.experiments),
    }


def _same_rates(content: Content) -> list[str]:
    """Return one text per group of experiments with identical learning rates: the names in the group."""
    groups: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for each in content.experiments:
        groups.setdefault(tuple(each.curves.learning_rate), []).append(each.group)
    distinct = [list(dict.fromkeys(names)) for rates, names in groups.items() if rates]
    return [", ".join(names) for names in distinct if len(names) > 1]


def _line(number: int, trained: TrainingView, what: str) -> charts.Line:
    return charts.Line(
        label=Message("{name}, {what}", name=visible(trained.name), what=_LINES[what]),
        number=number,
        points=getattr(trained.curves, what),
        is_faint=what == "loss",
        has_dots=what == "eval_loss",
        ringed=trained.best_step if what == "eval_loss" else None,
    )


def effect_charts(content: Content) -> dict[str, Markup]:
    """Plot the ranking's metric against each setting's values, with one dot per experiment."""
    ranking = content.ranking
    if ranking is None:
        return {}
    values = {place.experiment: place.value for place in ranking.places}
    higher = figures.described(ranking.metric).higher_is_better is not False
    return {
        effect.key: scatter_chart(
            [
                Point(_x(level.value, effect), values[name], f"{visible(name)}: {values[name]:.4g}")
                for level in effect.levels
                for name in level.experiments
            ],
            label=Message(
                "{metric} by {setting}",
                metric=figures.described(ranking.metric).label or ranking.metric,
                setting=visible(effect.key),
            ),
            log_x=_is_log([level.value for level in effect.levels]),
            may_log_y=not higher,
            higher_is_better=higher,
        )
        for effect in content.effects
    }


def _x(value: Any, effect: Effect) -> float | str:
    return float(value) if _are_numbers([level.value for level in effect.levels]) else _named(value)


def search_charts(searched: SearchView | None) -> dict[str, Markup]:
    """Plot the search's metric against each varied setting's values, with one mark per trial."""
    if searched is None:
        return {}
    trials = [trial for trial in searched.trials if trial.status != "training"]
    charts_by_key = {}
    for key in searched.keys:
        known = [trial for trial in trials if key in trial.parameters]
        values = [trial.parameters[key] for trial in known]
        are_numbers = _are_numbers(values)
        charts_by_key[key] = scatter_chart(
            [
                Point(
                    float(trial.parameters[key]) if are_numbers else _named(trial.parameters[key]),
                    None if trial.status == "failed" else trial.figure,
                    _tooltip(trial, key),
                    "best" if trial.name == searched.best else "plain" if trial.has_adapter else "weak",
                )
                for trial in known
            ],
            label=Message("{metric} by {setting}", metric=visible(searched.metric), setting=visible(key)),
            log_x=_is_log(values),
            may_log_y=not searched.higher_is_better,
            higher_is_better=searched.higher_is_better,
        )
    return charts_by_key


def _tooltip(trial: Trial, key: str) -> str:
    value = units.setting(trial.parameters[key])
    return Message(
        "{trial}, {value}: {status}, {figure}",
        trial=visible(trial.name),
        value=visible(value),
        status=shown_word(trial.status),
        figure=_figure(trial.figure),
    )


def _figure(value: float | None) -> str:
    return Message("no figure") if value is None else units.figure(value)


def rate_test_chart(test: RangeTest | None, content: Content) -> Markup:
    """Draw eval loss by learning rate, with the base's loss and the peak rates of the run's experiments."""
    if test is None:
        return Markup("")
    return scatter_chart(
        [
            Point(
                each.learning_rate,
                each.eval_loss,
                f"{each.learning_rate:g}: {_figure(each.eval_loss)}",
                "best" if each.learning_rate == test.suggestion else "plain",
            )
            for each in test.results
        ],
        label=Message("Eval loss by learning rate"),
        log_x=True,
        may_log_y=True,
        higher_is_better=False,
        is_joined=True,
        level=(test.base_eval_loss, Message("the base")),
        marks=[] if content.is_range_test else _peak_rates(content.experiments),
    )


def _peak_rates(trained: Sequence[TrainingView]) -> list[tuple[float, str]]:
    """List the highest learning rate of each experiment, with a label for it."""
    peaks = {each.group: max((rate for _, rate in each.curves.learning_rate), default=0) for each in trained}
    return [(rate, f"{visible(group)}: {rate:g}") for group, rate in peaks.items() if rate > 0]


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
        for value in values
    )


def _is_log(values: Sequence[Any]) -> bool:
    return _are_numbers(values) and min(values) > 0 and max(values) / min(values) > LOG_SETTING_FROM


def _named(value: Any) -> str:
    return visible(units.setting(value))

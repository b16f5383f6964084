"""The state of a run in training, as its page shows it: current figures, experiments and curves."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from loraloom.report.axes import colour
from loraloom.report.charts import Line, is_log, line_chart
from loraloom.report.training_view import group_of
from loraloom.run.events import Evaluation, Event, ExperimentEnd, Note, TrainStep
from loraloom.text.message import Message
from loraloom.text.visible import visible

# Number of recent steps for estimating the remaining time: the pace changes with wave and machine load.
RECENT_STEPS = 20
MOST_NOTES = 5


@dataclass(frozen=True)
class LiveExperiment:
    """The state of one experiment so far.

    Args:
        name: its name, with the seed if there are several seeds (`main@42`).
        colour: CSS classes for its colour.
        status: `done`, `stopped`, `failed` …; "" while it trains or waits.
        reason: why it ended.
        step, total_steps: numbers of steps taken and planned; `total_steps` is None before the first step.
        loss, eval_loss, learning_rate: the latest values; None before the first value.
        tokens_per_second: median throughput of its recent steps; None before the first step.
    """

    name: str
    colour: str
    status: str
    reason: str
    step: int
    total_steps: int | None
    loss: float | None
    eval_loss: float | None
    learning_rate: float | None
    tokens_per_second: float | None

    @property
    def share_done(self) -> float:
        """The fraction of the experiment's planned steps that have been taken."""
        return 0.0 if not self.total_steps else min(1.0, self.step / self.total_steps)


@dataclass(frozen=True)
class LiveView:
    """The state of a run so far.

    Args:
        experiments: states of the experiments, in the recipe's order.
        step: the run's latest step.
        tokens_per_second: throughput of all experiments together, as the median over recent steps; None
            before the first step.
        seconds_left: estimated number of seconds until all experiments have taken their steps, not counting
            evaluations; None if unknown.
        loss_chart, rate_chart, speed_chart: curves of loss, learning rate and tokens per second by step;
            empty before the first step.
        is_log_loss, is_log_rate: whether the chart of losses, or of learning rates, has a logarithmic axis.
        notes: the latest notes on the training.
    """

    experiments: list[LiveExperiment]
    step: int
    tokens_per_second: float | None
    seconds_left: float | None
    loss_chart: Markup
    rate_chart: Markup
    speed_chart: Markup
    is_log_loss: bool
    is_log_rate: bool
    notes: list[str]


def live_view(
    events: Sequence[Event], names: Iterable[str], waves: Sequence[Sequence[str]] | None
) -> LiveView:
    """Describe a run from its events.

    Args:
        events: events of its log.
        names: names of its experiments, in the recipe's order; experiments that occur only in the log follow.
        waves: which experiments train together; None until that is decided.
    """
    of_steps: dict[str, list[TrainStep]] = {name: [] for name in names}
    of_evals: dict[str, list[Evaluation]] = {}
    ends: dict[str, ExperimentEnd] = {}
    for event in events:
        if isinstance(event, TrainStep):
            of_steps.setdefault(event.experiment, []).append(event)
        elif isinstance(event, Evaluation):
            of_evals.setdefault(event.experiment, []).append(event)
        elif isinstance(event, ExperimentEnd):
            ends[event.experiment] = event
    groups = list(dict.fromkeys(map(group_of, of_steps)))
    numbers = {name: groups.index(group_of(name)) for name in of_steps}
    losses = [
        _line(name, numbers[name], _losses(own), Message("training loss"), is_faint=True)
        for name, own in of_steps.items()
    ]
    losses += [
        _line(name, numbers[name], _eval_losses(own), Message("eval loss"), has_dots=True)
        for name, own in of_evals.items()
        if name in numbers
    ]
    rates = [
        _line(
            name, numbers[name], [(e.experiment_step, e.learning_rate) for e in own], Message("learning rate")
        )
        for name, own in of_steps.items()
    ]
    speeds = [
        _line(
            name, numbers[name], [(e.experiment_step, e.tokens_per_second) for e in own], Message("tokens/s")
        )
        for name, own in of_steps.items()
    ]
    recent = _recent(event for own in of_steps.values() for event in own)
    return LiveView(
        experiments=[
            _experiment(name, colour(numbers[name]), own, of_evals.get(name, []), ends.get(name))
            for name, own in of_steps.items()
        ],
        step=max((own[-1].step for own in of_steps.values() if own), default=0),
        tokens_per_second=_speed(recent),
        seconds_left=_seconds_left(recent, of_steps, ends, waves or []),
        loss_chart=line_chart(losses, label=Message("Training loss and eval loss by step")),
        rate_chart=line_chart(rates, label=Message("Learning rate by step"), compare_peaks=True),
        speed_chart=line_chart(speeds, label=Message("Tokens per second by step")),
        is_log_loss=is_log(losses, compare_peaks=False),
        is_log_rate=is_log(rates, compare_peaks=True),
        notes=[event.message for event in events if isinstance(event, Note)][-MOST_NOTES:],
    )


def _line(
    name: str,
    number: int,
    points: list[tuple[int, float]],
    what: str,
    *,
    is_faint: bool = False,
    has_dots: bool = False,
) -> Line:
    label = Message("{name}, {what}", name=visible(name), what=what)
    return Line(label=label, number=number, points=points, is_faint=is_faint, has_dots=has_dots)


def _losses(own: Sequence[TrainStep]) -> list[tuple[int, float]]:
    return [(event.experiment_step, event.loss) for event in own]


def _eval_losses(own: Sequence[Evaluation]) -> list[tuple[int, float]]:
    return [(e.experiment_step, e.figures["eval_loss"]) for e in own if "eval_loss" in e.figures]


def _experiment(
    name: str,
    classes: str,
    steps: Sequence[TrainStep],
    evals: Sequence[Evaluation],
    end: ExperimentEnd | None,
) -> LiveExperiment:
    losses = _eval_losses(evals)
    last = steps[-1] if steps else None
    return LiveExperiment(
        name=name,
        colour=classes,
        status="" if end is None else end.status,
        reason="" if end is None else end.reason,
        step=0 if last is None else last.experiment_step,
        total_steps=None if last is None else last.total_steps,
        loss=None if last is None else last.loss,
        eval_loss=losses[-1][1] if losses else None,
        learning_rate=None if last is None else last.learning_rate,
        tokens_per_second=statistics.median(e.tokens_per_second for e in steps[-RECENT_STEPS:])
        if steps
        else None,
    )


def _recent(events: Iterable[TrainStep]) -> dict[int, list[TrainStep]]:
    """Return the run's latest steps: step → events of the experiments that took the step together."""
    steps: dict[int, list[TrainStep]] = {}
    for event in events:
        steps.setdefault(event.step, []).append(event)
    return {step: steps[step] for step in sorted(steps)[-RECENT_STEPS:]}


def _speed(recent: dict[int, list[TrainStep]]) -> float | None:
    return (
        statistics.median(sum(e.tokens_per_second for e in own) for own in recent.values())
        if recent
        else None
    )


def _seconds_left(
    recent: dict[int, list[TrainStep]],
    of_steps: dict[str, list[TrainStep]],
    ends: dict[str, ExperimentEnd],
    waves: Sequence[Sequence[str]],
) -> float | None:
    """Estimate the remaining time from recent steps, assuming that later waves take as long as this one."""
    times = [
        max(e.num_tokens / e.tokens_per_second for e in own)
        for own in recent.values()
        if all(e.num_tokens > 0 and e.tokens_per_second > 0 for e in own)
    ]
    left = [
        own[-1].total_steps - own[-1].experiment_step
        for name, own in of_steps.items()
        if own and name not in ends
    ]
    if not times or not left:
        return None
    total = max(own[-1].total_steps for own in of_steps.values() if own)
    num_waiting = sum(not any(of_steps.get(name) for name in wave) for wave in waves)
    return statistics.median(times) * (max(left) + num_waiting * total)

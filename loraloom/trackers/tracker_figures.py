"""The figures in a run's events, under the names that transformers' tracker integrations use."""

from __future__ import annotations

from typing import NamedTuple

from loraloom.run.events import Evaluation, Event, ExperimentEnd, TrainStep


class Figures(NamedTuple):
    """Figures of an experiment at one of its steps."""

    experiment: str
    step: int
    values: dict[str, float]


def figures_of(event: Event) -> Figures | None:
    """Return the figures in an event, by the names that trackers show; None if the event has no figures."""
    if isinstance(event, TrainStep):
        values = {
            "train/loss": event.loss,
            "train/learning_rate": event.learning_rate,
            "train/grad_norm": event.grad_norm,
            "train/epoch": event.epoch,
            "train/tokens_per_second": event.tokens_per_second,
        }
    elif isinstance(event, Evaluation):
        values = {f"eval/{name.removeprefix('eval_')}": value for name, value in event.figures.items()}
    elif isinstance(event, ExperimentEnd):
        ends = {
            "best/metric": event.best_metric,
            "best/step": event.best_step,
            "forgetting": event.forgetting,
        }
        values = {name: float(value) for name, value in ends.items() if value is not None}
    else:
        return None
    return Figures(event.experiment, event.experiment_step, values)

"""Events for tests: made up, and listened to while a verb works."""

from __future__ import annotations

from typing import Any

from loraloom.run.events import Event, Note, TrainStep, WarningNote


def message_of(event: Event) -> str:
    """What a note or a warning says; nothing for other events."""
    return event.message if isinstance(event, Note | WarningNote) else ""


def train_step(step: int, experiment: str = "main", **others: Any) -> TrainStep:
    """A step of an experiment; all that is not given is made up."""
    made_up: dict[str, Any] = {
        "experiment_step": step,
        "total_steps": step,
        "epoch": 0.5 * step,
        "loss": 2.5,
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
        "num_tokens": 100,
        "tokens_per_second": 50.0,
    }
    return TrainStep(step=step, experiment=experiment, **(made_up | others))

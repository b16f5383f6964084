"""Small trainings that report to trackers, in one process, with what they reported."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from loraloom.commands.train import train
from loraloom.errors import Interrupted
from loraloom.recipe import Recipe
from loraloom.run.events import Event, TrainStep, WarningNote
from loraloom.training.signals import StopRequest
from tests.commands.trained import small_recipe


def tracked_recipe(
    folder: Path, base: Path, trackers: Sequence[str], experiments: Sequence[str] = ("wide", "slow")
) -> Recipe:
    """The recipe of `small_recipe`, of six steps, with trackers."""
    recipe = small_recipe(folder, base, experiments)
    training = recipe.training.model_dump() | {"report_to": list(trackers)}
    return recipe.revised({"training": training})


def train_tracked(recipe: Recipe, out: Path, *, resume: bool = False, stop_after: int = 0) -> list[Event]:
    """Train, and return all events; a training that is stopped after some steps ends without an error."""
    events: list[Event] = []
    stop = StopRequest()

    def report(event: Event) -> None:
        events.append(event)
        if isinstance(event, TrainStep) and event.step == stop_after:
            stop.stop()

    place = {"resume": out} if resume else {"out": out}
    with contextlib.suppress(Interrupted):
        train(recipe, **place, report=report, stop=stop)
    return events


def warnings_in(events: Sequence[Event]) -> list[str]:
    """What the training warned of."""
    return [str(event.message) for event in events if isinstance(event, WarningNote)]


def adapters_of(run: Path) -> dict[str, bytes]:
    """The weights of every adapter."""
    return {path.parent.name: path.read_bytes() for path in run.glob("adapters/*/*.safetensors")}

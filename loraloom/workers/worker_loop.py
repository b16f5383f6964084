"""The loop of a worker, which trains wave after wave on one loaded base until it is dismissed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from loraloom.errors import LoRALoomError
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe.reading import parse_recipe
from loraloom.run.events import CheckpointSave, Event
from loraloom.run.folder import Run
from loraloom.session.safeguards import device_errors_explained
from loraloom.text.message import Message
from loraloom.training.checkpoint import read_state, state_files, verify, with_limits
from loraloom.training.loop import train
from loraloom.training.setup import Setup, scratch_run
from loraloom.training.signals import StopRequest
from loraloom.training.state import TrainingState
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.worker_material import WorkerMaterial


class Post(Protocol):
    """The connection to the driver, as the worker sees it."""

    def receive(self) -> Wave | None:
        """Wait for a wave and return it; None if the worker is dismissed."""

    def send(self, message: WorkerMessage) -> None:
        """Send a message to the driver."""

    def is_recalled(self) -> bool:
        """Return whether the driver has recalled the wave."""


def train_waves(own: WorkerMaterial, post: Post) -> int:
    """Train waves until the worker is dismissed.

    Args:
        own: base and rows of this worker.
        post: the connection to the driver.

    Returns:
        The number of waves that it trained.

    Raises:
        LoRALoomError: this process can no longer train; the driver has been told why.
    """
    num_waves = 0
    while (wave := post.receive()) is not None:
        try:
            train_wave(own, wave, post.send, post.is_recalled)
        except LoRALoomError as error:
            post.send(WorkerMessage("failure", wave.number, problem=error.as_message()))
            raise
        num_waves += 1
    return num_waves


def train_wave(
    own: WorkerMaterial, wave: Wave, send: Callable[[WorkerMessage], None], is_recalled: Callable[[], bool]
) -> None:
    """Train a wave until an experiment ends or is to be judged, or the wave is recalled; then send its state.

    Args:
        own: base and rows of this worker.
        wave: the wave.
        send: called with every message.
        is_recalled: called after every step; returns whether to give the wave back.

    Raises:
        LoRALoomError: the wave is invalid, does not fit in memory, or the device failed.
    """
    with scratch_run() as run:
        state = read_state(wave.files, run.folder)
        # The limits in the wave are those of the process that writes the run, which may have other memory.
        of_lane, state.limits = state.limits, dict(own.limits)

        def report(event: Event) -> None:
            if isinstance(event, CheckpointSave):
                files = with_limits(verify(run.checkpoints / event.path), of_lane)
                send(WorkerMessage("checkpoint", wave.number, files=files))
            else:
                send(WorkerMessage("event", wave.number, event=event.to_json()))

        def must_return(state: TrainingState) -> bool:
            has_ended = any(progress.has_ended for progress in state.progress.values())
            return has_ended or is_recalled() or _is_at_break(wave, state)

        with device_errors_explained(run, Message("start the worker again")):
            train(replace(_setup(own, wave, run, state), pause=must_return), state, report)
        own.limits[0], state.limits = state.limits_at(state.tick + 1), of_lane
        send(WorkerMessage("end", wave.number, files=dict(state_files(state))))


def _is_at_break(wave: Wave, state: TrainingState) -> bool:
    return any(
        state.progress[name].step >= step
        for name, steps in wave.breaks.items()
        if name in state.progress
        for step in steps
    )


def _setup(own: WorkerMaterial, wave: Wave, run: Run, state: TrainingState) -> Setup:
    material = own.material
    recipe = parse_recipe(wave.recipe, name=run.recipe_file.name)
    names = list(state.progress)
    experiments = [each for each in recipe.resolved_experiments if each.name in names]
    tokens = pass_tokens(material.base)
    setup = material.setup(run, StopRequest(), waves=[names], pass_tokens=tokens, pass_limit=own.pass_limit)
    # The adapters that experiments start from are in the state.
    return replace(setup, experiments=experiments, initial={}, num_others=wave.num_others)

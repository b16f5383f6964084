"""Lanes: experiments that train together, the state of their training, and its checkpoints.

    checkpoints/step-000160/       of the lane `main`, the only lane of a run that never had workers
    lanes/lane-3/step-000120/      of another lane, in the same format

A lane is either local (this process has its state) or with a worker, which trains it. Steps are counted from
the lane's start; if the lane is divided, both parts continue the count.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.run.folder import Run
from loraloom.training.checkpoint import (
    CheckpointInspection,
    newest_valid,
    read_state,
    state_files,
    store_checkpoint,
)
from loraloom.training.state import TrainingState
from loraloom.training.waves import Worker

MAIN = "main"
FOLDER = "lanes"
KEPT = 2  # checkpoints kept of a lane, in case the newest is damaged


@dataclass(eq=False)
class Lane:
    """Experiments that train together, their training state, and the process that has it.

    Args:
        name: `main`, or `lane-` and a number.
        folder: folder of its checkpoints.
        state: its training state; None while a worker trains the lane.
        worker: the worker that trains the lane; None if the lane is local.
        number: number of the wave that the worker trains.
        steps: latest known step of each experiment, while a worker trains the lane.
        is_here: whether this process is training it.
        is_recalled: whether the process that trains the lane was asked to return it.
        num_losses: number of workers that were lost while they trained it, since its last checkpoint.
    """

    name: str
    folder: Path
    state: TrainingState | None
    worker: Worker | None = None
    number: int = -1
    steps: dict[str, int] = field(default_factory=dict)
    is_here: bool = False
    is_recalled: bool = False
    num_losses: int = 0

    @property
    def names(self) -> list[str]:
        """The lane's experiments, in the order of the bank."""
        return list(self.steps if self.state is None else self.state.progress)

    @property
    def is_home(self) -> bool:
        """Whether no process is training the lane."""
        return self.state is not None and not self.is_here

    @property
    def home_state(self) -> TrainingState:
        """The training state of a local lane."""
        assert self.state is not None, f"{self.name} is away"
        return self.state

    def step_of(self, name: str) -> int:
        """Return the number of steps that an experiment has taken, as far as known."""
        return self.steps[name] if self.state is None else self.state.progress[name].step

    def stored(self) -> dict[str, bytes]:
        """Write the lane's state to disk, and return the content of each file, by path in the checkpoint."""
        contents = dict(state_files(self.home_state))
        self.store(self.home_state.tick, contents)
        return contents

    def store(self, tick: int, contents: dict[str, bytes]) -> Path:
        """Write a checkpoint's files to the lane's folder; return the folder of the checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return store_checkpoint(self.folder, tick, contents, keep=KEPT)

    def leave(self, worker: Worker, number: int) -> None:
        """Record that a worker has the lane, and drop the lane's state, which must have been stored."""
        self.steps = {name: progress.step for name, progress in self.home_state.progress.items()}
        self.state, self.worker, self.number, self.is_recalled = None, worker, number, False

    def come_home(self, files: dict[str, bytes] | None) -> None:
        """Make the lane local again, with its state from the end of the wave or the newest intact checkpoint.

        Args:
            files: the checkpoint at the end of the wave; None if the worker was lost. In that case, an
                experiment that is not in the newest intact checkpoint starts over.
        """
        names = set(self.steps)
        if files is None:
            state, _ = newest_valid(self.folder)
            fresh = TrainingState.at_start(list(self.steps))
            state = fresh if state is None else state
            for name in names - state.progress.keys():
                state.progress[name], state.tensors[name] = fresh.progress[name], fresh.tensors[name]
        else:
            state = read_state(files, self.folder)
        self.state, self.worker, self.is_recalled = part_of(state, names), None, False

    def remove(self) -> None:
        """Remove the checkpoints of an empty lane; those of `main` are kept."""
        if self.name != MAIN:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # it contains other lanes
                self.folder.parent.rmdir()


class Lanes(list[Lane]):
    """The lanes of a run.

    Args:
        run: the run.
        lanes: its lanes.
    """

    def __init__(self, run: Run, lanes: Sequence[Lane]) -> None:
        super().__init__(lanes)
        self.run = run

    def add(self, state: TrainingState) -> Lane:
        """Add a lane with the given state, under an unused name."""
        folder = self.run.folder / FOLDER
        numbers = [int(lane.name.rpartition("-")[2]) for lane in self if lane.name != MAIN]
        while (folder / f"lane-{(number := max([0, *numbers]) + 1)}").exists():
            numbers.append(number)
        lane = Lane(f"lane-{number}", folder / f"lane-{number}", state)
        self.append(lane)
        return lane

    def divide(self, lane: Lane, names: Collection[str]) -> Lane:
        """Move experiments of a local lane to a new lane, and write both lanes to disk.

        The new lane is written first. If the process is killed before it has written the other lane, the
        experiments are in both, and `read_lanes` keeps each where it has taken more steps.
        """
        state = lane.home_state
        new = self.add(part_of(state, names))
        new.num_losses = lane.num_losses
        new.stored()
        lane.state = part_of(state, state.progress.keys() - set(names))
        lane.stored()
        return new

    def drop(self, lane: Lane) -> None:
        """Remove an empty lane; `main` stays, because this process may train it again."""
        lane.remove()
        if lane.name != MAIN:
            self.remove(lane)


def has_lanes(run: Run) -> bool:
    """Return whether the run has lanes besides `main`; a lane is removed when its experiments have ended."""
    return any((run.folder / FOLDER).glob("lane-*"))


def part_of(state: TrainingState, names: Collection[str]) -> TrainingState:
    """Return a training state that has only the named experiments of `state`."""
    return TrainingState(
        state.tick,
        {name: own for name, own in state.progress.items() if name in names},
        {name: own for name, own in state.tensors.items() if name in names},
        dict(state.limits),
        [name for name in state.unfinished if name in names],
    )


def read_lanes(run: Run, names: Sequence[str]) -> tuple[Lanes, list[CheckpointInspection]]:
    """Read the lanes of a run from their newest intact checkpoints.

    Args:
        run: the run.
        names: its experiments that have not ended.

    Returns:
        The lanes, `main` first, each without experiments that have ended or belong to another lane; and
        the result of inspecting each checkpoint. An experiment that is in no checkpoint is in no lane.
    """
    folders = sorted(path for path in (run.folder / FOLDER).glob("lane-*") if path.is_dir())
    found, verdicts = [], []
    for name, folder in [(MAIN, run.checkpoints), *((path.name, path) for path in folders)]:
        state, own = newest_valid(folder)
        verdicts += own
        if state is not None or name == MAIN:
            found.append(Lane(name, folder, state or TrainingState.at_start([])))
    places = {name: [lane for lane in found if name in lane.names] for name in names}
    chosen = {
        name: max(reversed(own), key=lambda lane: lane.step_of(name)) for name, own in places.items() if own
    }
    for lane in found:
        lane.state = part_of(lane.home_state, [name for name, own in chosen.items() if own is lane])
    return Lanes(run, [lane for lane in found if lane.name == MAIN or lane.names]), verdicts

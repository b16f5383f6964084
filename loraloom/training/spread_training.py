"""Training with the experiments spread over workers; only this process writes the run.

`checkpoints/` contains the experiments that have ended, as in any training, and `lanes/` those in progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loraloom.data.timetable import Timetable
from loraloom.errors import Interrupted
from loraloom.run.events import CheckpointSave, Report
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.exporting import export, export_folder
from loraloom.training.lanes import MAIN, Lane, part_of, read_lanes
from loraloom.training.loop import train
from loraloom.training.setup import Setup
from loraloom.training.signals import interruption
from loraloom.training.spread import Spread
from loraloom.training.state import Progress, SlotTensors, TrainingState
from loraloom.training.waves import WorkerSource


class SpreadTraining:
    """Training in progress on workers.

    Args:
        setup: setup as for `loop.train`; its bank is empty.
        state: state before the first step, or from a checkpoint; changed in place.
        source: source of workers.
        trains_here: whether this process trains experiments too, at most as many as the largest wave has.
        report: called with every event.
    """

    def __init__(
        self,
        setup: Setup,
        state: TrainingState,
        source: WorkerSource,
        *,
        trains_here: bool,
        report: Report,
    ) -> None:
        self.setup, self.state, self.record = setup, state, setup.run.recorder(report)
        capacity = max(map(len, setup.waves)) if trains_here else 0
        names = [name for name, progress in state.progress.items() if not progress.has_ended]
        lanes, _ = read_lanes(setup.run, names)
        placed = {name for lane in lanes for name in lane.names if lane.name != MAIN}
        lanes[:] = [lane for lane in lanes if lane.name != MAIN]
        begun = [name for name in names if name not in placed and state.progress[name].step]
        if begun:
            lanes.add(part_of(state, begun))
        self._waiting = [name for name in names if name not in placed and name not in begun]
        self.spread = Spread(
            self, lanes, source, capacity=capacity, stop=setup.stop, record=self.record, report=report
        )

    def complete(self) -> None:
        """Continue until every experiment has ended.

        Raises:
            Interrupted: a stop was requested; everything is saved.
            TrainingError: no worker is left.
        """
        try:
            self.spread.complete()
        finally:
            self.spread.pool.close()

    @property
    def most_together(self) -> int:
        """The number of all experiments, because all may train at once."""
        return len(self.setup.experiments)

    def settle(self, lane: Lane) -> None:
        """Remove ended experiments from a lane, and write their adapters."""
        own = lane.home_state
        ended = [name for name, progress in own.progress.items() if progress.has_ended]
        for name in ended:
            self.state.progress[name], self.state.tensors[name] = own.progress[name], own.tensors[name]
            folder = export_folder(self.setup.run, self.state, name)
            if folder is not None and not (self.setup.run.folder / folder).is_dir():
                export(self.setup, self.state, name)
        if ended:
            self._save()
        for name in ended:
            del own.progress[name], own.tensors[name]

    def has_more(self) -> bool:
        """Return whether experiments are waiting for a lane."""
        return bool(self._waiting)

    def fill(self, lane: Lane, number: int) -> None:
        """Move waiting experiments into a lane until it has the given number of them."""
        state = lane.home_state
        while self._waiting and len(lane.names) < number:
            name = self._waiting.pop(0)
            state.progress[name] = Progress()
            state.tensors[name] = SlotTensors(current=dict(self.setup.initial.get(name, {})))

    def recipe_text(self, lane: Lane) -> str:
        """Return the run's recipe, as YAML."""
        return self.setup.run.recipe_file.read_text(encoding="utf-8")

    def breaks_of(self, lane: Lane) -> dict[str, Sequence[int]]:
        """Return no steps, because only a search judges experiments before they end."""
        return {}

    def share_left(self, name: str, step: int) -> float:
        """Return the share of an experiment's steps that is left."""
        timetable = Timetable(self.setup.experiment(name), len(self.setup.train_set))
        return 1 - step / timetable.total_steps

    def train_here(self, lane: Lane) -> None:
        """Train a lane in this process until one of its experiments ends, or the lane is recalled."""

        def is_break(state: TrainingState) -> bool:
            return any(own.has_ended for own in state.progress.values()) or self.spread.must_return(lane)

        run = replace(self.setup.run)
        run.checkpoints = lane.folder
        setup = replace(self.setup, run=run, waves=[lane.names], pause=is_break)
        try:
            train(setup, lane.home_state, self.record)
        except Interrupted as stop:
            self.spread.end(stop.signal_number)

    def stopped(self, signal_number: int) -> None:
        """Save everything and end the training, which can be resumed.

        Raises:
            Interrupted: always.
        """
        self._save()
        raise interruption(self.setup.run, self.state.tick, signal_number or self.setup.stop.signal_number)

    def _save(self) -> None:
        self.state.tick = max(self.state.tick, self.spread.num_steps)
        run = self.setup.run
        path = save_checkpoint(run.checkpoints, self.state, keep=self.setup.shared.save_total_limit)
        self.record(CheckpointSave(step=self.state.tick, path=path.name))

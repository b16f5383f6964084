"""Distributing a run's experiments among workers and this process.

    read workers' messages ──▶ record results ──▶ divide, fill, assign lanes ──▶ train here, or wait ──▶ …

Every worker has one lane at a time, with as many experiments as fit in its memory, but not so many that
others get none. If nothing is left to assign, the largest lane is recalled and divided.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from loraloom.run.events import Report
from loraloom.training.lanes import MAIN, Lane, Lanes
from loraloom.training.pool import WavePool
from loraloom.training.signals import StopRequest
from loraloom.training.state import TrainingState
from loraloom.training.waves import WorkerSource

# While this process trains, it attends to workers between steps, at most once in this many seconds.
ATTEND_SECONDS = 0.2
# Seconds that a stop waits for workers to finish their step; otherwise, a resume uses their checkpoints.
STOP_SECONDS = 60.0
# An experiment with a smaller share of its steps left is not moved.
LEAST_SHARE_TO_MOVE = 0.1


class WaveOwner(Protocol):
    """The command whose experiments are distributed: it provides experiments and records their results."""

    @property
    def most_together(self) -> int:
        """The maximum number of experiments in training at once, on all workers together."""

    def settle(self, lane: Lane) -> None:
        """Remove the ended experiments from a local lane, and write their results to the run."""

    def has_more(self) -> bool:
        """Return whether some experiments are not in any lane yet."""

    def fill(self, lane: Lane, number: int) -> None:
        """Add experiments to a local lane until it has the given number, or until no experiments are left."""

    def recipe_text(self, lane: Lane) -> str:
        """Return a recipe that has the experiments of a lane, as YAML."""

    def breaks_of(self, lane: Lane) -> Mapping[str, Sequence[int]]:
        """Return, for each experiment of a lane, the steps at which it is judged: continued or stopped."""

    def share_left(self, name: str, step: int) -> float:
        """Return the fraction of an experiment's steps that remain after `step`."""

    def train_here(self, lane: Lane) -> None:
        """Train a lane here until an experiment ends or is to be judged, or `Spread.must_return` is True."""

    def stopped(self, signal_number: int) -> None:
        """End the command: a stop was requested, and everything is saved.

        Raises:
            Interrupted: always.
        """


class Spread:
    """The distribution of a run's experiments among workers and this process.

    Args:
        owner: the command.
        lanes: lanes of the run.
        source: source of workers.
        capacity: number of experiments that this process trains together; 0 if it trains none.
        stop: cancellation token, set by a signal or by the calling program.
        record, report: as in `WavePool`.
    """

    def __init__(
        self,
        owner: WaveOwner,
        lanes: Lanes,
        source: WorkerSource,
        *,
        capacity: int,
        stop: StopRequest,
        record: Report,
        report: Report,
    ) -> None:
        self.owner, self.lanes, self.capacity, self.stop = owner, lanes, capacity, stop
        self.pool = WavePool(lanes, source, record, report)
        self._attended = 0.0

    @property
    def num_steps(self) -> int:
        """The largest number of steps that any lane has taken."""
        here = [lane.state.tick for lane in self.lanes if lane.state is not None]
        self.pool.num_steps = max([self.pool.num_steps, *here])
        return self.pool.num_steps

    def complete(self) -> None:
        """Continue until every experiment has ended.

        Raises:
            Interrupted: a stop was requested; everything is saved.
            TrainingError: no worker is left.
        """
        while True:
            own = self.serve(is_here_idle=self.capacity > 0)
            if not any(lane.names for lane in self.lanes) and not self.owner.has_more():
                return
            if self.stop:
                self.end(self.stop.signal_number)
            if own is None:
                self.pool.wait()
                continue
            own.is_here = True
            try:
                self.owner.train_here(own)
            finally:
                own.is_here = own.is_recalled = False

    def end(self, signal_number: int) -> None:
        """Save everything and end the command.

        Raises:
            Interrupted: always.
        """
        away = self.pool.away
        self.pool.recall_all(STOP_SECONDS)
        for lane in self.lanes:
            lane.is_here = False
            if lane.names and lane.is_home:
                self._settle(lane)
                # `main` was saved when training here ended, unless a worker had it.
                if lane.name != MAIN or self.capacity == 0 or lane in away:
                    lane.stored()
        self.owner.stopped(signal_number)

    def must_return(self, lane: Lane) -> bool:
        """Process the workers' updates between two steps here; return whether the lane was recalled."""
        if time.monotonic() - self._attended > ATTEND_SECONDS:
            self.serve()
        return lane.is_recalled

    def serve(self, *, is_here_idle: bool = False) -> Lane | None:
        """Process the workers' updates, and give a lane to each worker without one.

        Args:
            is_here_idle: whether this process needs a lane too.

        Returns:
            The lane for this process; None if it does not need one, or no lane is left.
        """
        self.pool.attend()
        self._attended = time.monotonic()
        for lane in [lane for lane in self.lanes if lane.is_home]:
            self._settle(lane)
        free = self.pool.free
        self._divide(len(free) + is_here_idle)
        own = self._lane_for(self.capacity) if is_here_idle else None
        for worker in free:
            given = self._lane_for(worker.capacity, other_than=own)
            if given is None:
                self._call_back()
                break
            recipe, breaks = self.owner.recipe_text(given), self.owner.breaks_of(given)
            self.pool.send(given, worker, recipe, breaks, self._num_training - len(given.names))
        if is_here_idle and own is None:
            self._call_back()
        return own

    @property
    def _num_training(self) -> int:
        return sum(len(lane.names) for lane in self.lanes)

    @property
    def _num_workers(self) -> int:
        return max(1, len(self.pool.workers) + self.pool.source.num_expected + (self.capacity > 0))

    @property
    def _most_together(self) -> int:
        return max(self.owner.most_together, self._num_workers)

    def _can_add(self) -> bool:
        return self.owner.has_more() and self._num_training < self._most_together

    def _settle(self, lane: Lane) -> None:
        if not lane.home_state.unfinished:  # otherwise a signal arrived between a step and its evaluation
            self.owner.settle(lane)
        if not lane.names:
            _ = self.num_steps
            self.lanes.drop(lane)

    def _lane_for(self, capacity: int, other_than: Lane | None = None) -> Lane | None:
        """Return a local lane with a worker's share of the experiments; None if nothing is left to train."""
        home = [lane for lane in self.lanes if lane.is_home and lane is not other_than]
        # A lane with experiments has priority; a local lane without any is `main`, which is kept.
        lane = next((lane for lane in home if lane.names), None) or next(iter(home), None)
        if lane is None:
            if not self._can_add():
                return None
            lane = self.lanes.add(TrainingState.at_start([]))
        share = min(capacity, -(-self._most_together // self._num_workers))
        room = self._most_together - self._num_training
        if not lane.home_state.unfinished:
            self.owner.fill(lane, min(share, len(lane.names) + room))
        if not lane.names:
            self.lanes.drop(lane)
            return None
        if len(lane.names) > capacity:
            self.lanes.divide(lane, lane.names[capacity:])
        return lane

    def _divide(self, num_idle: int) -> None:
        """Divide local lanes until every idle worker can have one, if no experiments can be added."""
        while not self._can_add() and num_idle > 1:
            home = [lane for lane in self.lanes if lane.is_home and lane.names]
            largest = max(home, key=lambda lane: len(self._movable(lane)), default=None)
            if len(home) >= num_idle or largest is None or len(self._movable(largest)) < 2:
                return
            self.lanes.divide(largest, self._movable(largest)[::2])

    def _call_back(self) -> None:
        """Recall the lane with the most experiments worth moving, unless an idle worker can have new ones."""
        busy = [lane for lane in self.lanes if not lane.is_home]
        if self._can_add() or any(lane.is_recalled for lane in busy):
            return
        largest = max(busy, key=lambda lane: len(self._movable(lane)), default=None)
        if largest is None or len(self._movable(largest)) < 2:
            return
        largest.is_recalled = True
        if largest.worker is not None:
            largest.worker.recall()

    def _movable(self, lane: Lane) -> list[str]:
        """Return the experiments of a lane that are worth moving, those with the most steps left first."""
        left = {name: self.owner.share_left(name, lane.step_of(name)) for name in lane.names}
        worth = [name for name in left if left[name] >= LEAST_SHARE_TO_MOVE]
        return sorted(worth, key=lambda name: -left[name])

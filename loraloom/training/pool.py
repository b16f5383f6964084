"""The workers of a driver, and the lanes that they are training.

The pool records workers' events and stores their checkpoints. If a worker is lost, its lane returns to the
last checkpoint, from which another worker can continue it.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping, Sequence

from loraloom.errors import TrainingError
from loraloom.run.events import (
    CheckpointSave,
    Event,
    ExperimentEnd,
    MemoryLimit,
    Note,
    Report,
    TrainStep,
    WarningNote,
    read_event,
)
from loraloom.text.message import Message
from loraloom.training.checkpoint import tick_of
from loraloom.training.lanes import MAIN, Lane, Lanes
from loraloom.training.waves import Wave, Worker, WorkerMessage, WorkerSource

# Polling remote workers is most of a driver's work, so it polls less often while nothing arrives.
WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.02, 0.2
# A lane of several experiments that loses this many workers without a checkpoint in between is divided; a
# single experiment fails after one more loss, because it may be what ends the workers.
LOSSES_UNTIL_DIVIDED = 2


class WavePool:
    """Workers and the lanes that they train.

    Args:
        lanes: lanes of the run; changed in place.
        source: where workers come from.
        record: called with each training event, to log it.
        report: called with notes about workers.
    """

    def __init__(self, lanes: Lanes, source: WorkerSource, record: Report, report: Report) -> None:
        self.lanes, self.source, self.record, self.report = lanes, source, record, report
        self.workers: list[Worker] = []
        self.num_steps = 0  # steps of the lane that has taken the most
        self._wait_seconds = WAIT_SECONDS
        # A worker of an earlier driver may still report on that driver's waves.
        self._numbers = itertools.count(random.randrange(2**31))

    @property
    def free(self) -> list[Worker]:
        """The workers without a lane."""
        busy = {id(lane.worker) for lane in self.lanes}
        return [worker for worker in self.workers if id(worker) not in busy]

    @property
    def away(self) -> list[Lane]:
        """The lanes that workers are training."""
        return [lane for lane in self.lanes if lane.worker is not None]

    def send(
        self, lane: Lane, worker: Worker, recipe: str, breaks: Mapping[str, Sequence[int]], num_others: int
    ) -> None:
        """Send a local lane to a worker, which trains it.

        Args:
            lane, worker: the lane, and a free worker.
            recipe, breaks, num_others: as in `Wave`.
        """
        wave = Wave(next(self._numbers), recipe, lane.stored(), breaks, num_others)
        lane.leave(worker, wave.number)
        worker.start(wave)

    def attend(self) -> None:
        """Accept new workers, and process all messages from workers since the last call."""
        newcomers = self.source.newcomers()
        for remark in self.source.remarks():
            self.report(WarningNote(message=remark))
        for worker in newcomers:
            self.workers.append(worker)
            self.report(
                Note(
                    message=Message(
                        "{worker} takes part; it can train up to {capacity} of the experiments at a time",
                        worker=worker.name,
                        capacity=worker.capacity,
                    )
                )
            )
        for worker in list(self.workers):
            for message in worker.messages():
                self._wait_seconds = WAIT_SECONDS
                self._take(worker, message)
            if worker in self.workers and worker.loss:
                self._lose(worker, worker.loss)

    def wait(self) -> None:
        """Wait briefly, because there is nothing to do.

        Raises:
            TrainingError: no worker is left or expected.
        """
        if not self.workers and (reason := self.source.why_none()):
            raise TrainingError(
                Message("everything trained so far is saved, but no worker is left: {reason}", reason=reason),
                where=str(self.lanes.run.folder),
                fix=Message("Use --resume to continue, either with other workers or without any."),
            )
        time.sleep(self._wait_seconds)
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)

    def recall_all(self, seconds: float) -> None:
        """Recall all lanes, and wait for them for a limited time.

        Args:
            seconds: time limit; a lane that is not back by then is resumed from its last checkpoint.
        """
        deadline = time.monotonic() + seconds
        for lane in self.away:
            assert lane.worker is not None
            lane.worker.recall()
        while self.away and time.monotonic() < deadline:
            self.attend()
            time.sleep(WAIT_SECONDS)

    def close(self) -> None:
        """Dismiss all workers."""
        for worker in self.workers:
            worker.dismiss()
        self.source.close()

    def _lane_of(self, worker: Worker) -> Lane | None:
        return next((lane for lane in self.lanes if lane.worker is worker), None)

    def _take(self, worker: Worker, message: WorkerMessage) -> None:
        lane = self._lane_of(worker)
        if message.kind == "failure":
            self._lose(worker, message.problem)
        elif lane is None or message.number != lane.number:
            return  # about a wave that this worker no longer has
        elif message.kind == "event":
            self._log(worker, lane, read_event(message.event))
        else:
            tick, files = tick_of(message.files), dict(message.files)
            lane.num_losses, self.num_steps = 0, max(self.num_steps, tick)
            if message.kind == "end":
                lane.come_home(files)
            else:
                path = lane.store(tick, files)
                shown = path.name if lane.name == MAIN else path.relative_to(self.lanes.run.folder)
                self.record(CheckpointSave(step=tick, path=str(shown)))

    def _log(self, worker: Worker, lane: Lane, event: Event | None) -> None:
        if isinstance(event, MemoryLimit):  # its limits are the worker's own
            said = Message(
                "{worker} ran out of memory at step {step}; its passes are smaller from now on",
                worker=worker.name,
                step=event.step,
            )
            self.record(Note(message=said))
        elif event is not None:
            if isinstance(event, TrainStep) and event.experiment in lane.steps:
                lane.steps[event.experiment] = event.experiment_step
            self.record(event)

    def _lose(self, worker: Worker, reason: str) -> None:
        """Continue without a lost worker; its lane is local again, at its last checkpoint."""
        self.workers.remove(worker)
        worker.dismiss()
        self.report(
            WarningNote(
                message=Message("{worker} no longer takes part: {reason}", worker=worker.name, reason=reason)
            )
        )
        lane = self._lane_of(worker)
        if lane is None:
            return
        lane.come_home(None)
        lane.num_losses += 1
        said = Message(
            "{names}: training will continue elsewhere after step {step}",
            names=", ".join(lane.names),
            step=lane.home_state.tick,
        )
        self.record(Note(message=said))
        if lane.num_losses >= LOSSES_UNTIL_DIVIDED:
            self._isolate(lane, reason)

    def _isolate(self, lane: Lane, reason: str) -> None:
        """Divide a lane that keeps losing workers; if it has only one experiment, fail that experiment."""
        if len(lane.names) > 1:
            for name in lane.names[1:]:
                self.lanes.divide(lane, [name])
        elif lane.num_losses > LOSSES_UNTIL_DIVIDED:
            (name,), state = lane.names, lane.home_state
            progress = state.progress[name]
            progress.fail(
                Message(
                    "{count} workers were lost while training this experiment; the last one: {reason}",
                    count=lane.num_losses,
                    reason=reason,
                )
            )
            self.record(
                ExperimentEnd(
                    step=state.tick,
                    experiment=name,
                    experiment_step=progress.step,
                    status=progress.status,
                    reason=progress.reason,
                    best_step=progress.best_step,
                    best_metric=progress.best_metric,
                    forgetting=None,
                )
            )

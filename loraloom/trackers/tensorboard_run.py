"""TensorBoard: one folder of event files for each experiment, in the run's `trackers/tensorboard`."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from loraloom.trackers.tracker_run import Ending, TrackedExperiment


class TensorBoardRun:
    """A folder of event files. TensorBoard's own writer is used, because torch's takes seconds to import."""

    def __init__(self, experiment: TrackedExperiment, first_step: int) -> None:
        self.run_id = experiment.run_id or experiment.name
        self._writer = EventFileWriter(str(experiment.folder / "tensorboard" / self.run_id))
        # Starting at a step makes TensorBoard ignore what was written earlier for that step and later ones.
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))
        self._write(0, summary=hparams_pb(dict(experiment.settings), trial_id=experiment.title))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(step, summary=Summary(value=values))
        self._writer.flush()

    def finish(self, ending: Ending) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, step: int, **content: object) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, **content))

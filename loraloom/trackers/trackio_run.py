"""trackio: a local database in TRACKIO_DIR, or the server given by TRACKIO_SPACE_ID or TRACKIO_SERVER_URL."""

from __future__ import annotations

import contextvars
import os
from collections.abc import Mapping

import trackio

from loraloom.trackers.tracker_run import PROJECT, Ending, TrackedExperiment


class TrackioRun:
    """A trackio run, identified by its name."""

    def __init__(self, experiment: TrackedExperiment, first_step: int) -> None:
        self.run_id = experiment.run_id or experiment.title
        # In a context of its own, because `init` ends the current run of its context.
        self._run = contextvars.Context().run(
            trackio.init,
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            name=self.run_id,
            group=experiment.group,
            config=dict(experiment.settings),
            resume="never" if experiment.run_id is None else "allow",
            embed=False,
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""
        self._run.log(dict(figures), step=step)

    def finish(self, ending: Ending) -> None:
        """Write the figures that are still in memory."""
        self._run.finish()

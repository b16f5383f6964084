"""SwanLab: offline in the run folder (`swanlab sync` uploads it), or online if SWANLAB_MODE=online."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

import swanlab

from loraloom.trackers.tracker_run import PROJECT, Ending, TrackedExperiment


class SwanLabRun:
    """A SwanLab run, identified by its id; a process can have only one run at a time."""

    def __init__(self, experiment: TrackedExperiment, first_step: int) -> None:
        self.run_id = experiment.run_id or secrets.token_hex(8)
        folder = experiment.folder / "swanlab"
        folder.mkdir(parents=True, exist_ok=True)
        swanlab.init(
            project=os.environ.get("SWANLAB_PROJECT", PROJECT),
            group=experiment.group,
            name=experiment.title,
            id=self.run_id,
            resume="allow",
            log_dir=str(folder),
            config=dict(experiment.settings),
            mode=os.environ.get("SWANLAB_MODE", "offline"),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""
        swanlab.log(dict(figures), step=step)

    def finish(self, ending: Ending) -> None:
        """Close the run; in online mode, wait until everything has been sent."""
        if ending == "failed":
            swanlab.finish(state="crashed", error="failed")
        else:
            swanlab.finish(state="success" if ending == "done" else "aborted")

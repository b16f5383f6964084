"""Weights & Biases: offline in the run folder (`wandb sync` uploads it), or online if WANDB_MODE=online."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

import wandb

from loraloom.trackers.tracker_run import PROJECT, Ending, TrackedExperiment


class WandbRun:
    """A Weights & Biases run, identified by its id."""

    def __init__(self, experiment: TrackedExperiment, first_step: int) -> None:
        self.run_id = experiment.run_id or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=experiment.group,
            name=experiment.title,
            id=self.run_id,
            resume="allow",
            dir=experiment.folder,
            config=dict(experiment.settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",
            settings=wandb.Settings(console="off", disable_git=True, save_code=False),
        )
        # wandb's own steps must increase; steps after a checkpoint are repeated when a run is resumed.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""
        self._run.log({**figures, "step": step})

    def finish(self, ending: Ending) -> None:
        """Close the run; in online mode, wait until everything has been sent."""
        self._run.finish(exit_code=0 if ending == "done" else 1)

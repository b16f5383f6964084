"""MLflow: the server at MLFLOW_TRACKING_URI, or else `mlflow.db` next to the run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from loraloom.trackers.tracker_run import PROJECT, Ending, TrackedExperiment

STATUSES: Mapping[Ending, str] = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowRun:
    """An MLflow run, identified by the id that the server gave it."""

    def __init__(self, experiment: TrackedExperiment, first_step: int) -> None:
        database = experiment.folder.parent.parent / "mlflow.db"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{database}")
        if experiment.run_id is None:
            self.run_id = self._create(experiment)
        else:
            self.run_id = experiment.run_id
            self._client.update_run(self.run_id, "RUNNING")

    def _create(self, experiment: TrackedExperiment) -> str:
        project = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = self._client.get_experiment_by_name(project)
        if found is None:
            try:
                project_id = self._client.create_experiment(project)
            except MlflowException:  # another training has just created it
                project_id = self._client.get_experiment_by_name(project).experiment_id
        else:
            project_id = found.experiment_id
        tags = {"loraloom.run": experiment.group, "loraloom.experiment": experiment.name}
        run = self._client.create_run(project_id, run_name=experiment.title, tags=tags)
        params = [Param(key, str(value)) for key, value in experiment.settings.items()]
        self._client.log_batch(run.info.run_id, params=params)
        return str(run.info.run_id)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write the experiment's figures for one step."""
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in figures.items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def finish(self, ending: Ending) -> None:
        """Set the run's status."""
        self._client.set_terminated(self.run_id, STATUSES[ending])

"""The trackers by name; a tracker's module is imported only here, and only if it is requested."""

from __future__ import annotations

from importlib.util import find_spec

from loraloom.recipe.tracker_names import TrackerName
from loraloom.trackers.tracker_run import StartRun

# Packages that allow one run per process, so each experiment needs a process of its own.
ONE_RUN_A_PROCESS = frozenset({"swanlab"})


def is_installed(name: TrackerName) -> bool:
    """Return whether a tracker's package, which always has the tracker's name, can be imported."""
    return find_spec(name) is not None


def start_run_of(name: TrackerName) -> StartRun:
    """Import a tracker and return the function that opens a run."""
    if name == "trackio":
        from loraloom.trackers.trackio_run import TrackioRun

        return TrackioRun
    if name == "tensorboard":
        from loraloom.trackers.tensorboard_run import TensorBoardRun

        return TensorBoardRun
    if name == "wandb":
        from loraloom.trackers.wandb_run import WandbRun

        return WandbRun
    if name == "mlflow":
        from loraloom.trackers.mlflow_run import MlflowRun

        return MlflowRun
    from loraloom.trackers.swanlab_run import SwanLabRun

    return SwanLabRun

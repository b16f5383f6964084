"""The choice of where a run's workers come from: other devices, a Ray cluster or processes that join."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.run.lock import holder_note
from loraloom.session.device_list import devices_in_use
from loraloom.session.locations import Relocation
from loraloom.session.provenance_file import read_provenance
from loraloom.text.message import Message
from loraloom.training.lanes import has_lanes
from loraloom.training.waves import WorkerSource
from loraloom.workers.ray_options import RayOptions

# Notes in the lock of a run, for processes that want to join it.
ON_RAY = "ray"


def is_spread(run: Run, devices: Sequence[str], ray: RayOptions | None) -> bool:
    """Return whether a run's experiments are spread over workers, or were before it was interrupted."""
    return ray is not None or len(devices) > 1 or has_lanes(run)


def note_for_joiners(ray: RayOptions | None) -> str:
    """Return the note to store in the lock of a run, for processes that want to join it."""
    return "" if ray is None else ON_RAY


def refusal_to_join(run: Run) -> RunError | None:
    """Return why no process can join a run at present; None if one can.

    Args:
        run: the run, which has started.

    Raises:
        RunError, RecipeError: the run is damaged, or cannot be read at the moment.
    """
    on_ray = holder_note(run.folder / LOCK_FILE) == ON_RAY
    if on_ray:
        what = Message("the run is trained on a Ray cluster, so other processes cannot join it")
    elif _has_one_process(run):
        what = Message("this is a training run in a single process, which no other process can join")
    else:
        return None
    return RunError(
        what,
        where=str(run.folder),
        allowed=Message("a search without --ray, or a training run of several experiments with `devices`"),
        fix=Message("For more workers, add nodes to the Ray cluster.")
        if on_ray
        else Message("To train with several processes, start the run with torchrun, `devices` or --ray."),
    )


def _has_one_process(run: Run) -> bool:
    known = read_provenance(run)
    if known.search is not None:
        return False
    return not is_spread(run, devices_in_use(read_run_recipe(run.recipe_file), known), None)


def workers_of(
    run: Run, recipe: Recipe, devices: Sequence[str], moved: Relocation, ray: RayOptions | None
) -> WorkerSource:
    """Return the source of a run's workers: a Ray cluster, other devices, or processes that join.

    Args:
        run: the locked run, which has already been planned.
        recipe: its recipe, with the current locations of base and data.
        devices: those of the recipe that have something to train; the first is that of this process.
        moved: the current locations of base and data that were moved.
        ray: the cluster, if there is one.

    Raises:
        RunError: Ray is not installed, or no cluster answers.
    """
    if ray is None:  # each source imports what it needs: Optuna or Ray
        from loraloom.workers.devices import DeviceWorkers
        from loraloom.workers.file_workers import FileWorkers

        if len(devices) > 1:
            return DeviceWorkers(run, devices[1:], moved)
        return FileWorkers(run)
    from loraloom.workers.cluster import RayWorkers

    return RayWorkers(ray, run, recipe, moved)

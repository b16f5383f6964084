"""Where the workers of a run come from."""

from __future__ import annotations

from loraloom.recipe import Recipe
from loraloom.run.folder import Run
from loraloom.session.locations import Relocation
from loraloom.training.lanes import has_lanes
from loraloom.training.waves import WorkerSource
from loraloom.workers.devices import DeviceWorkers
from loraloom.workers.files import FileWorkers
from loraloom.workers.ray_options import RayOptions


def is_spread(run: Run, recipe: Recipe, ray: RayOptions | None) -> bool:
    """Return whether a run's experiments are spread over workers, now or before it was interrupted."""
    return ray is not None or len(recipe.devices) > 1 or has_lanes(run)


def workers_of(run: Run, recipe: Recipe, moved: Relocation, ray: RayOptions | None) -> WorkerSource:
    """Return the source of a run's workers: a Ray cluster, other devices, or those who join in its folder.

    Args:
        run: the locked run, with its plan.
        recipe: its recipe, with present locations.
        moved: present locations of base and data that were moved.
        ray: the cluster, if there is one.

    Raises:
        RunError: Ray is not installed, or no cluster answers.
    """
    if ray is None:
        if len(recipe.devices) > 1:
            return DeviceWorkers(run, recipe.devices[1:], moved)
        return FileWorkers(run)
    from loraloom.workers.cluster import RayWorkers

    return RayWorkers(ray, run, recipe, moved)

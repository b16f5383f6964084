"""Where the workers of a run come from."""

from __future__ import annotations

from typing import Any

from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.folder import Run
from loraloom.session.locations import Relocation
from loraloom.session.provenance_file import read_provenance
from loraloom.session.run_session import RunSession
from loraloom.text.message import Message
from loraloom.training.lanes import has_lanes
from loraloom.training.waves import WorkerSource
from loraloom.workers.devices import DeviceWorkers
from loraloom.workers.ray_options import RayOptions
from loraloom.workers.wave_files import FileWorkers


def is_spread(run: Run, recipe: Recipe, ray: RayOptions | None) -> bool:
    """Return whether a run's experiments are spread over workers, now or before it was interrupted."""
    return ray is not None or len(recipe.devices) > 1 or has_lanes(run)


def of_ray(ray: RayOptions | None) -> dict[str, Any]:
    """Return what the provenance of a new run says of workers, for processes that want to join it."""
    return {} if ray is None else {"on_ray": True}


def saying_whether_on_ray(session: RunSession, ray: RayOptions | None) -> RunSession:
    """Say the same in the provenance of a run that is resumed."""
    if bool(session.known.on_ray) == (ray is not None):
        return session
    return session.with_provenance(session.known.replaced(on_ray=ray is not None))


def require_joinable(run: Run, *, is_held: bool) -> None:
    """Refuse to join a run that no process can join.

    Args:
        run: the run, which has started.
        is_held: whether a process works on it.

    Raises:
        RunError: says what the run is; or it is damaged.
    """
    known, what = read_provenance(run), ""
    if known.on_ray and is_held:
        what = Message("is trained on a Ray cluster, whose own workers train it")
    elif known.search is None and not is_spread(run, read_run_recipe(run.recipe_file), None):
        what = Message("is a training, which no other process can join")
    if what:
        raise RunError(
            what,
            where=str(run.folder),
            allowed=Message("a search without --ray, or a training with `devices`"),
            fix=Message("For more workers on a Ray cluster, add nodes to it.")
            if known.on_ray
            else Message("To train on several processes, start it with torchrun, `devices` or --ray."),
        )


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

"""A worker's own copy of a run's material: the same rows and the same base, read once, and never written."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from loraloom.base.available_memory import free_bytes
from loraloom.base.loading import Base
from loraloom.errors import LoRALoomError, Problem, RunError, TrainingError
from loraloom.forecast.footprint import Counter
from loraloom.forecast.plan import (
    USABLE_SHARE,
    experiment_need,
    fitting_limit,
    num_fitting,
    pass_tokens,
    shared_tokens,
)
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import quiet
from loraloom.run.folder import Run
from loraloom.run.patience import patiently
from loraloom.search.concurrency import heaviest_experiment
from loraloom.search.space import probe_experiments, with_experiments
from loraloom.session import provenance as origin
from loraloom.session.answering_model import load_run_base
from loraloom.session.locations import Relocation
from loraloom.session.material import Material, prepare
from loraloom.session.run_session import resume_session
from loraloom.session.search_request import request_of_run
from loraloom.text.message import Message
from loraloom.text.units import size
from loraloom.training.state import Limits

# While the process of the run replaces documents, they may be inconsistent for a moment.
SECONDS_FOR_DOCUMENTS = 5.0


@dataclass(frozen=True)
class WorkerMaterial:
    """The material that a worker trains on.

    Args:
        material: base and rows; its experiments are placeholders, because each wave brings the ones to train.
        capacity: number of experiments that fit in memory together.
        pass_limit: maximum number of tokens per pass that this worker's memory allows; None for no limit.
        limits: limits found when memory ran out in earlier waves, by step, as in `TrainingState`.
    """

    material: Material
    capacity: int
    pass_limit: int | None
    limits: dict[int, Limits] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The worker's device, for a message."""
        return str(self.material.base.device)


def own_name() -> str:
    """Return a name for this machine in messages."""
    return platform.node()


def load_material(
    run: Run, moved: Relocation, *, device: str | None = None, num_beside: int = 0
) -> WorkerMaterial:
    """Read a run's rows and base, and verify that they match the run's records.

    Args:
        run: the run, or a copy of its recipe, provenance and split.
        moved: the current locations of its base and data on this machine, if they were moved.
        device: device to train on; by default the one that the recipe names, or else the best one.
        num_beside: number of other workers that share this machine's memory.

    Raises:
        LoRALoomError: package versions, rows or base are missing or differ from those of the run, or there is
            too little memory.
    """
    recipe, known = patiently(
        partial(origin.run_recipe, run), errors=(LoRALoomError,), seconds=SECONDS_FOR_DOCUMENTS
    )
    _require_versions(known)
    session = resume_session(run, recipe, known, moved, quiet, is_own=False)
    recipe = _without_starts(session.recipe, has_trials=known.search is not None)
    base = _load_base(recipe, known, device)
    material = prepare(recipe, session.split, base, session.retained)
    return WorkerMaterial(material, *_plan(run, known, material, num_beside))


def _without_starts(recipe: Recipe, *, has_trials: bool) -> Recipe:
    """Return a recipe without initial adapters: they come with the wave, and need not exist here.

    Args:
        recipe: recipe of the run.
        has_trials: whether its experiments are the trials of a search, each of which comes with its wave.
    """
    lora = recipe.lora.model_copy(update={"init_adapter": None})
    experiments = {
        name: {**changes, "lora": {**changes.get("lora", {}), "init_adapter": None}}
        for name, changes in recipe.experiments.items()
        if not has_trials
    }
    return recipe.model_copy(update={"experiments": experiments, "lora": lora})


def _require_versions(known: Provenance) -> None:
    """Refuse package versions that differ from those of the process that writes the run.

    Raises:
        RunError: names every package that differs.
    """
    theirs = known.newest_process.versions
    ours = origin.run_versions(known)
    problems = [
        Problem(
            Message("the package has a different version in the process that writes the run"),
            where=name,
            found=ours.get(name, "none"),
            allowed=theirs.get(name, "none"),
            fix=Message("Install the same versions on every machine."),
        )
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if problems:
        raise RunError(problems)


def _load_base(recipe: Recipe, known: Provenance, device: str | None) -> Base:
    """Load the base in the run's dtype, on a device of this machine."""
    choices = {key: value for key, value in known.decided.items() if key == "dtype"}
    if device is None and recipe.device == "auto" and not torch.cuda.is_available():
        device = "cpu"
    return load_run_base(recipe, known, choices if device is None else choices | {"device": device})


def _plan(run: Run, known: Provenance, material: Material, num_beside: int) -> tuple[int, int | None]:
    """Return how many of the largest experiments fit in memory, and the maximum number of tokens per pass.

    Raises:
        TrainingError: not even one experiment fits.
    """
    counter = Counter(material.bank, material.train_set)
    free = free_bytes(material.base.device) // (1 + num_beside)
    if known.search is None:
        limit = fitting_limit(material.experiments, counter, free * USABLE_SHARE)
        needs = [experiment_need(each, counter, limit) for each in material.experiments]
        need = max(needs, key=lambda each: each.adapter_bytes + each.activation_bytes)
        most = len(needs)
    else:
        request = patiently(
            partial(request_of_run, run), errors=(LoRALoomError,), seconds=SECONDS_FOR_DOCUMENTS
        )
        lora = request.recipe.lora.model_copy(update={"init_adapter": None})
        request = replace(request, recipe=request.recipe.model_copy(update={"lora": lora}))
        probes = with_experiments(request.recipe, probe_experiments(request.space)).resolved_experiments
        _, need, limit = heaviest_experiment(request, probes, counter, free)
        most = request.num_trials
    capacity = num_fitting(need, shared_tokens(pass_tokens(material.base), limit), free, most)
    if capacity == 0:
        raise TrainingError(
            Message("there is too little memory to train one experiment in addition to the base"),
            where=str(material.base.device),
            found=Message("{free} free", free=size(free)),
            allowed=Message("{need} or more", need=size(need.adapter_bytes + need.activation_bytes)),
        )
    return capacity, limit

"""A run's base with its adapters attached: what answers, for compare, predict and merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import Adapter, read_adapter
from loraloom.bank.rows import BASE
from loraloom.base.loading import Base
from loraloom.errors import ModelError, RunError
from loraloom.evaluate.comparison import BASE_NAME
from loraloom.recipe import Recipe
from loraloom.run import Run, open_run
from loraloom.workflows import provenance as origin
from loraloom.workflows.prepare import load_recipe_base


@dataclass(frozen=True)
class Loaded:
    """A run's base with some of its adapters attached.

    Args:
        slots: names as in results (`base` first) → slots of the bank.
        adapters: as read from the run.
        notes: what should be known about what was loaded.
    """

    run: Run
    recipe: Recipe
    folder: Path
    base: Base
    bank: AdapterBank
    slots: dict[str, str | None]
    adapters: dict[str, Adapter]
    notes: list[str]


def load_run(folder: Path, experiments: Sequence[str] | None = None, *, with_base: bool = True) -> Loaded:
    """Load a run's base and attach its adapters.

    Args:
        folder: the run directory.
        experiments: whose adapters; all that are there where not given.
        with_base: whether the base answers too.

    Raises:
        RunError: it is no run, or has no such adapter.
        AdapterError: an adapter is damaged or belongs to another base.
    """
    run = open_run(folder)
    recipe, recipe_folder, known = origin.run_recipe(run)
    names, notes = adapter_names(run, recipe, experiments)
    base = _load_base(recipe, recipe_folder, known, notes)
    bank = AdapterBank(base)
    adapters = {name: read_adapter(run.adapters / name, base) for name in names}
    for name, adapter in adapters.items():
        bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    slots: dict[str, str | None] = {BASE_NAME: BASE} if with_base else {}
    return Loaded(
        run, recipe, recipe_folder, base, bank, slots | {name: name for name in names}, adapters, notes
    )


def adapter_names(run: Run, recipe: Recipe, wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The adapters to load, and notes on those that are not what one may think.

    Raises:
        RunError: an experiment is unknown, or has no adapter yet.
    """
    listed: list[str] = []
    seeds: dict[str, list[str]] = {}
    for experiment in recipe.resolved_experiments:
        listed.append(experiment.name)
        seeds.setdefault(experiment.group, []).append(experiment.name)
    if wanted is not None:  # an experiment's name stands for all its seeds
        wanted = [name for given in wanted for name in seeds.get(given, [given])]
    there = [name for name in listed if (run.adapters / name).is_dir()]
    unknown = [name for name in wanted or [] if name not in listed]
    if unknown:
        raise RunError(f"has no experiment `{unknown[0]}`", where=str(run.folder), allowed=", ".join(listed))
    lacking = [name for name in wanted or [] if name not in there]
    if lacking or not (there or wanted == []):
        what = (
            f"experiment `{lacking[0]}` has no adapter" if lacking else "there is no finished adapter in it"
        )
        raise RunError(what, where=str(run.folder), fix="Train on with `loraloom train RECIPE --resume RUN`.")
    notes = (
        [] if run.is_finished else ["training has not ended; these are the adapters that are finished so far"]
    )
    notes += [f"{name} has no adapter" for name in listed if name not in there and wanted is None]
    return list(there if wanted is None else wanted), notes


def only_experiment(run: Run, recipe: Recipe) -> str:
    """The one experiment of a run.

    Raises:
        RunError: it has several; the message names them.
    """
    names = [experiment.name for experiment in recipe.resolved_experiments]
    if len(names) > 1:
        raise RunError(
            "the run has several experiments",
            where=str(run.folder),
            allowed=", ".join(names),
            fix="Say --experiment NAME.",
        )
    return names[0]


def _load_base(recipe: Recipe, folder: Path, known: dict[str, Any], notes: list[str]) -> Base:
    choices = origin.decided(known)
    try:
        return load_recipe_base(recipe, folder, choices)
    except ModelError as error:
        if error.problems[0].where != "device":
            raise
        device = choices.get("device")
        notes.append(f"the run's device, {device}, is not here; figures may differ in the last digits")
        return load_recipe_base(recipe, folder)

"""A run's base with its adapters attached: what answers, for compare, predict and merge."""

from __future__ import annotations

from collections.abc import Container, Sequence
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
from loraloom.training.checkpoint import newest_valid
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

    @property
    def answer_tokens(self) -> frozenset[str]:
        """The special tokens that the adapters were trained to say."""
        said = [adapter.origin.get("answer_tokens") for adapter in self.adapters.values()]
        return frozenset(str(token) for tokens in said if isinstance(tokens, list) for token in tokens)


def load_run(folder: Path, experiments: Sequence[str] | None = None, *, with_base: bool = True) -> Loaded:
    """Load a run's base and attach its adapters.

    Args:
        folder: the run directory; of an experiment still training, its best so far is loaded.
        experiments: whose adapters; all that are there where not given.
        with_base: whether the base answers too.

    Raises:
        RunError: it is no run, or has no such adapter.
        AdapterError: an adapter is damaged or belongs to another base.
    """
    run = open_run(folder)
    recipe, recipe_folder, known = origin.run_recipe(run)
    so_far = {} if run.is_finished else best_so_far(run, recipe)
    names, notes = adapter_names(run, recipe, experiments, so_far)
    base = _load_base(recipe, recipe_folder, known, notes)
    bank = AdapterBank(base)
    adapters = {name: so_far.get(name) or read_adapter(run.adapters / name, base) for name in names}
    for name, adapter in adapters.items():
        bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    slots: dict[str, str | None] = {BASE_NAME: BASE} if with_base else {}
    return Loaded(
        run, recipe, recipe_folder, base, bank, slots | {name: name for name in names}, adapters, notes
    )


def best_so_far(run: Run, recipe: Recipe) -> dict[str, Adapter]:
    """Of each experiment that is still training, the best adapter that its newest checkpoint holds."""
    state, _ = newest_valid(run.checkpoints)
    if state is None:
        return {}
    found: dict[str, Adapter] = {}
    for experiment in recipe.resolved_experiments:
        tensors = state.tensors[experiment.name]
        best = tensors.best or tensors.current
        if best and not (run.adapters / experiment.name).is_dir():
            modules = sorted({name.rpartition(".")[0] for name in best})
            settings = experiment.lora.model_copy(update={"target_modules": modules})
            found[experiment.name] = Adapter(run.checkpoints, settings, best, {})
    return found


def adapter_names(
    run: Run, recipe: Recipe, wanted: Sequence[str] | None, so_far: Container[str] = ()
) -> tuple[list[str], list[str]]:
    """The adapters to load, and notes on those that are not what one may think.

    Args:
        wanted: experiments, each standing for all its seeds; all where not given.
        so_far: experiments without a finished adapter whose best so far will do.

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
    finished = [name for name in listed if (run.adapters / name).is_dir()]
    there = [name for name in listed if name in finished or name in so_far]
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
    chosen = list(there if wanted is None else wanted)
    notes += [f"{name} is still training: this is its best so far" for name in chosen if name not in finished]
    return chosen, notes


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

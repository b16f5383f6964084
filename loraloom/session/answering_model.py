"""A base with adapters attached, which generates answers for `compare`, `predict`, `serve` and the web UI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.bank.adapter_tensors import adapted_linears
from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import Adapter, read_adapter
from loraloom.base.device_and_dtype import choose_device, rank_device
from loraloom.base.loading import Base
from loraloom.data.ownership import BASE
from loraloom.distributed.launch import read_launch
from loraloom.errors import ModelError
from loraloom.evaluate.decoding import describe_unused
from loraloom.recipe import Recipe
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run, open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_names import adapters_of
from loraloom.session.answering_ranks import ALONE, AnsweringRanks, with_tensors_of_bank
from loraloom.session.locations import explain_base_location
from loraloom.session.material import load_recipe_base
from loraloom.session.provenance_file import read_provenance
from loraloom.session.same_base import check_same_base
from loraloom.session.shared_passes import Passes
from loraloom.text.message import Message
from loraloom.training.lanes import read_lanes
from loraloom.training.state import SlotTensors


@dataclass(frozen=True)
class AnsweringModel:
    """A base with some adapters attached.

    Args:
        comparisons: folder in which its answers are stored.
        recipe: states how rows are read and answers generated.
        passes: computes with the base and its adapters.
        slots: for each name in results, `base` first, its slot in the bank.
        adapters: the adapters as read from their folders.
        notes: notes on what was loaded.
    """

    comparisons: Path
    recipe: Recipe
    base: Base
    passes: Passes
    slots: dict[str, str | None]
    adapters: dict[str, Adapter]
    notes: list[str]

    @property
    def bank(self) -> AdapterBank:
        """The bank with the adapters attached."""
        return self.passes.bank

    @property
    def answer_tokens(self) -> frozenset[str]:
        """Special tokens that the adapters were trained to generate."""
        said = [adapter.origin.get("answer_tokens") for adapter in self.adapters.values()]
        return frozenset(str(token) for tokens in said if isinstance(tokens, list) for token in tokens)


def load_run(
    folder: Path,
    experiments: Sequence[str] | None = None,
    *,
    with_base: bool = True,
    recipe: Recipe | None = None,
    ranks: AnsweringRanks = ALONE,
) -> AnsweringModel:
    """Load a run's base and attach its adapters.

    Args:
        folder: the run directory; for an experiment that is still training, its best state so far is loaded.
        experiments: experiments whose adapters to load; None for all that exist.
        with_base: whether the base answers too.
        recipe: the run's recipe with the current locations of base and data; by default, the recorded ones.
        ranks: the processes of the command; they divide the base if the recipe says so.

    Raises:
        RunError: the folder is not a run, or has no such adapter.
        AdapterError: an adapter is damaged or belongs to another base.
        RankError: another rank ended, or does not answer.
    """
    run = open_run(folder)
    if recipe is None:
        recipe, known = origin.run_recipe(run)
    else:
        known = read_provenance(run, recipe)
    so_far = {} if run.is_finished else best_so_far(run, recipe)
    names, notes = adapters_of(run, recipe, experiments, so_far)
    choices = _usable_choices(recipe, known, notes)
    is_divided = ranks.divide_base(recipe, choices, notes)
    base = load_run_base(recipe, known, choices, shares_base=is_divided)
    adapters = {name: so_far.get(name) or read_adapter(run.adapters / name, base) for name in names}
    passes = ranks.attach(base, adapters)
    adapters = with_tensors_of_bank(passes.bank, adapters)
    notes += (note for adapter in adapters.values() for note in adapter.notes)
    if base.quantization != UNQUANTIZED:
        notes.append(_on_quantized(base.quantization))
    if unused := describe_unused(base, recipe.generation):
        notes.append(unused)
    slots: dict[str, str | None] = {BASE_NAME: BASE} if with_base else {}
    slots |= {name: name for name in names}
    return AnsweringModel(run.comparisons, recipe, base, passes, slots, adapters, notes)


def _on_quantized(quantization: str) -> str:
    return Message(
        "the base is quantized to {quantization}, as in training; on its original weights, which a merged "
        "model has, answers may differ",
        quantization=quantization,
    )


def best_so_far(run: Run, recipe: Recipe) -> dict[str, Adapter]:
    """Load the best adapter so far of each experiment that is still training, from the newest checkpoints."""
    lanes, _ = read_lanes(run, [experiment.name for experiment in recipe.resolved_experiments])
    states = {name: lane.home_state.tensors[name] for lane in lanes for name in lane.names}
    found: dict[str, Adapter] = {}
    for experiment in recipe.resolved_experiments:
        tensors = states.get(experiment.name, SlotTensors())
        best = tensors.best or tensors.current
        if best and not (run.adapters / experiment.name).is_dir():
            settings = experiment.lora.model_copy(update={"target_modules": adapted_linears(best)})
            found[experiment.name] = Adapter(run.checkpoints, settings, best, {})
    return found


def load_run_base(
    recipe: Recipe,
    known: Provenance,
    choices: dict[str, str] | None = None,
    *,
    shares_base: bool = False,
) -> Base:
    """Load the base of a run.

    Args:
        recipe, known: the run's recipe, with the current location of its base, and its provenance.
        choices: dtype and device; by default those recorded in the run.
        shares_base: as in `load_recipe_base`.

    Raises:
        ModelError: the base is unusable; the message states where it was looked for.
        RunError: the base is not the one that the run was trained on.
    """
    choices = known.decided if choices is None else choices
    with explain_base_location(recipe, known):
        base = load_recipe_base(recipe, choices, shares_base=shares_base)
    check_same_base(known, base)
    recorded = None if known.base is None else known.base.name
    # Adapters and cards keep the base's original name.
    return base if recipe.locations.base is None or recorded is None else replace(base, name=recorded)


def _usable_choices(recipe: Recipe, known: Provenance, notes: list[str]) -> dict[str, str]:
    """Return the run's dtype and device; if the device is not available here, add a note and return {}."""
    choices = known.decided
    try:
        choose_device(rank_device(choices.get("device", recipe.first_device), read_launch()))
    except ModelError as error:
        if error.problems[0].where != "device":
            raise
        notes.append(
            Message(
                "the run's device, {device}, is not available; figures may differ in the last digits",
                device=choices.get("device"),
            )
        )
        return {}
    return choices

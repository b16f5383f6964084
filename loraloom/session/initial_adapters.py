"""The adapters that experiments continue from, and validation that they fit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter
from loraloom.base.targets import Target, target_setting
from loraloom.errors import AdapterError, Problem
from loraloom.recipe import Experiment, LoraSettings
from loraloom.recipe.relative_paths import Locations
from loraloom.text.message import Message

# Settings that all modules of an adapter share.
OF_WHOLE = ("use_rslora", "use_dora", "lora_bias", "trainable_token_indices", "modules_to_save")
PATTERNED = ("r", "lora_alpha")  # settings that may differ between modules


def initial_tensors(
    experiment: Experiment,
    locations: Locations,
    bank: AdapterBank,
    targets: Sequence[Target],
    notes: list[str],
) -> dict[str, Tensor]:
    """Read the tensors of the adapter that an experiment continues from.

    Args:
        experiment: an experiment with `lora.init_adapter`.
        locations: locations of the files and folders that the recipe names.
        bank: bank on the base.
        targets: targets of the experiment.
        notes: list to which notes on this adapter are added, unless they are in it already.

    Raises:
        AdapterError: the adapter does not fit the experiment.
    """
    lora = experiment.lora
    adapter = read_adapter(locations.path_of(lora.init_adapter or ""), bank.base)
    notes += [note for note in adapter.notes if note not in notes]  # one adapter may serve several
    where = f"{experiment.name}: lora.init_adapter"
    has_patterns = any(each.rank_pattern or each.alpha_pattern for each in (lora, adapter.settings))
    problems = [
        Problem(
            Message("the adapter was trained with a different {key}", key=key),
            where=where,
            found=str(getattr(adapter.settings, key)),
            allowed=str(getattr(lora, key)),
            fix=Message("Set lora.{key}: {key_2}.", key=key, key_2=getattr(adapter.settings, key)),
        )
        for key in (*OF_WHOLE, *(() if has_patterns else PATTERNED))
        if getattr(adapter.settings, key) != getattr(lora, key)
    ]
    wanted = {target.name for target in targets}
    if has_patterns:
        problems += _other_parts(lora, adapter.settings, sorted(wanted), where)
    if set(adapter.settings.target_modules) != wanted:
        surplus, missing = (
            set(adapter.settings.target_modules) - wanted,
            wanted - set(adapter.settings.target_modules),
        )
        problems.append(
            Problem(
                Message(
                    "the adapter has {num_surplus} modules that target_modules does not name, and "
                    "lacks {num_missing} that target_modules names",
                    num_surplus=len(surplus),
                    num_missing=len(missing),
                ),
                where=where,
                found=min(surplus or missing),
                fix=Message(
                    "Set lora.target_modules: {target_setting}.",
                    target_setting=target_setting(adapter.settings.target_modules, bank.available),
                ),
            )
        )
    if problems:
        raise AdapterError(problems)
    return adapter.tensors


def _other_parts(lora: LoraSettings, own: LoraSettings, modules: Sequence[str], where: str) -> list[Problem]:
    """Describe in which modules an initial adapter's rank or scale differs from its experiment's."""
    named = set(own.target_modules)
    found = []
    for key in PATTERNED:
        differing = [
            name
            for name in modules
            if name in named and getattr(own.at(name), key) != getattr(lora.at(name), key)
        ]
        if differing:
            first = differing[0]
            found.append(
                Problem(
                    Message(
                        "the adapter has a different {key} in {num_modules} modules",
                        key=key,
                        num_modules=len(differing),
                    ),
                    where=where,
                    found=f"{first}: {getattr(own.at(first), key)}",
                    allowed=str(getattr(lora.at(first), key)),
                    fix=Message("Set lora.r, lora.lora_alpha and their patterns to the adapter's."),
                )
            )
    return found

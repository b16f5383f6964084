"""All kinds of adapters, and how to find the kind that a recipe requests or a PEFT folder contains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from loraloom.bank.updates.base_start import BaseStart
from loraloom.bank.updates.dora import Dora
from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.lora_bias import LoraBias
from loraloom.bank.updates.lora_fa import LoraFa
from loraloom.bank.updates.update import UpdateKind
from loraloom.base.targets import Target
from loraloom.recipe import LoraSettings

LORA, DORA, LORA_FA, BASE_START, LORA_BIAS = Lora(), Dora(), LoraFa(), BaseStart(), LoraBias()
# In the order in which they are tried for a PEFT folder: a variant comes before the kind that it varies.
KINDS: tuple[UpdateKind, ...] = (DORA, BASE_START, LORA_FA, LORA_BIAS, LORA)


def kind_of(settings: LoraSettings) -> UpdateKind:
    """Return the kind of adapter that a recipe requests."""
    if settings.use_dora:
        return DORA
    if settings.use_lorafa:
        return LORA_FA
    if settings.lora_bias:
        return LORA_BIAS
    return LORA if settings.init_lora_weights is True else BASE_START


def num_weights(settings: LoraSettings, targets: Iterable[Target], *, trained: bool = False) -> int:
    """Count the weights of an adapter in some linears; with `trained`, only those that are trained."""
    kind = kind_of(settings)
    ends = kind.tensor_names
    if trained:
        ends = tuple(end for group in kind.parameter_groups(settings) for end in group.tensor_names)
    shapes = (kind.shapes(settings.at(target.name), target.linear) for target in targets)
    return sum(math.prod(each[end]) for each in shapes for end in ends)


def kind_of_config(config: Mapping[str, Any]) -> UpdateKind | None:
    """Return the kind of adapter that an adapter_config.json describes; None if it is unknown."""
    return next((kind for kind in KINDS if kind.is_kind_of(config)), None)

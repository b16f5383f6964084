"""All kinds of adapters, and the choice of one by a recipe or a PEFT folder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from loraloom.bank.updates.dora import Dora
from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.update import UpdateKind
from loraloom.base.targets import Target
from loraloom.recipe import LoraSettings

LORA, DORA = Lora(), Dora()
# In the order in which they are tried for a PEFT folder: a variant comes before what it is a variant of.
KINDS: tuple[UpdateKind, ...] = (DORA, LORA)


def kind_of(settings: LoraSettings) -> UpdateKind:
    """Return the kind of adapter that a recipe asks for."""
    return DORA if settings.use_dora else LORA


def num_weights(settings: LoraSettings, targets: Iterable[Target]) -> int:
    """Count the weights of an adapter in some linears."""
    kind = kind_of(settings)
    shapes = (kind.shapes(settings.at(target.name), target.linear) for target in targets)
    return sum(math.prod(shape) for each in shapes for shape in each.values())


def kind_of_config(config: Mapping[str, Any]) -> UpdateKind | None:
    """Return the kind of adapter that an adapter_config.json describes; None if it is unknown."""
    return next((kind for kind in KINDS if kind.is_kind_of(config)), None)

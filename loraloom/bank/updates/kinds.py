"""All kinds of adapters, and the choice of one by a recipe or a PEFT folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.update import UpdateKind
from loraloom.recipe import LoraSettings

LORA = Lora()
# In the order in which they are tried for a PEFT folder: a variant comes before what it is a variant of.
KINDS: tuple[UpdateKind, ...] = (LORA,)


def kind_of(settings: LoraSettings) -> UpdateKind:
    """Return the kind of adapter that a recipe asks for."""
    return LORA


def kind_of_config(config: Mapping[str, Any]) -> UpdateKind | None:
    """Return the kind of adapter that an adapter_config.json describes; None if it is unknown."""
    return next((kind for kind in KINDS if kind.is_kind_of(config)), None)

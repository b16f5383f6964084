"""Every kind of adapter that the bank computes, and which one a recipe or a PEFT folder means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.update import UpdateKind
from loraloom.recipe import LoraSettings

LORA = Lora()
# In the order in which a PEFT folder is offered to them: a variant stands before what it is a variant of.
KINDS: tuple[UpdateKind, ...] = (LORA,)


def kind_of(settings: LoraSettings) -> UpdateKind:
    """The kind of adapter that a recipe asks for."""
    return LORA


def kind_of_config(config: Mapping[str, Any]) -> UpdateKind | None:
    """The kind of adapter that an adapter_config.json is of; None if it is of none that is known."""
    return next((kind for kind in KINDS if kind.is_kind_of(config)), None)

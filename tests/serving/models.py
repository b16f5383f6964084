"""Tiny models that answer: a base with adapters that differ, without a run."""

from __future__ import annotations

from pathlib import Path

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import Adapter
from loraloom.base.loading import Base
from loraloom.recipe import DataSettings, GenerationSettings, LoraSettings, Recipe
from loraloom.serving.served_model import ServedModel
from loraloom.session.answering_model import AnsweringModel
from loraloom.session.shared_passes import Passes

MAX_NEW_TOKENS = 14


def served(base: Base, num_adapters: int, **generation: object) -> ServedModel:
    """A base and adapters a0, a1, … of different ranks, each of which changes its answers."""
    bank = AdapterBank(base)
    for number in range(num_adapters):
        slot = f"a{number}"
        norms = ["norm"] if number == 1 else None
        settings = LoraSettings(r=2 + number % 3, target_modules="all-linear", modules_to_save=norms)
        bank.attach(slot, settings, seed=number)
        generator = torch.Generator().manual_seed(number)
        bank.load(
            slot,
            {
                name: t + torch.randn(t.shape, generator=generator) * 0.3 * (not name.endswith("lora_A"))
                for name, t in bank.tensors(slot).items()
            },
        )
    base.model.eval()
    answers = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS, **generation)  # type: ignore[arg-type]
    recipe = Recipe(model_name_or_path="tiny", data=DataSettings(train="none.json"), generation=answers)
    adapters = {slot: Adapter(Path(), bank.settings(slot), {}, {}) for slot in bank.slots}
    slots: dict[str, str | None] = {"base": None, **{slot: slot for slot in bank.slots}}
    return ServedModel(AnsweringModel(Path(), recipe, base, Passes(bank), slots, adapters, []))

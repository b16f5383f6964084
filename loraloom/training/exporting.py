"""An experiment's best adapter → the run's `adapters/`, with its card."""

from __future__ import annotations

from typing import Any

import torch

from loraloom.bank.peft_folder import portable_name, write_adapter
from loraloom.base.targets import peft_target_modules
from loraloom.errors import LoRALoomError
from loraloom.training.card import adapter_card, read_facts
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState


def export(setup: Setup, state: TrainingState, name: str) -> None:
    """Write an experiment's best adapter to the run's `adapters/`."""
    experiment = next(e for e in setup.experiments if e.name == name)
    progress, base = state.progress[name], setup.bank.base
    origin: dict[str, Any] = {
        "experiment": name,
        "model_type": base.model.config.model_type,
        "head_is_tied": base.head_is_tied,
        "best_step": progress.best_step,
        "best_metric": progress.best_metric,
        "metric_for_best_model": experiment.training.metric_for_best_model,
    }
    write_adapter(
        setup.run.adapters / name,
        base=base,
        settings=experiment.lora,
        tensors=state.tensors[name].best,
        available=setup.bank.available,
        origin=origin,
        card=_card(setup, name, state.tensors[name].best, origin),
    )


def _card(setup: Setup, name: str, tensors: dict[str, torch.Tensor], origin: dict[str, Any]) -> str:
    """The adapter's README, from the run's own files; where they are gone, that must not cost the adapter."""
    base = setup.bank.base
    adapted = sorted({tensor.rpartition(".")[0] for tensor in tensors})
    named = {"base": portable_name(base.name), "base_fingerprint": base.fingerprint, **origin}
    try:
        facts = read_facts(setup.run, name, named, peft_target_modules(adapted, setup.bank.available))
    except (LoRALoomError, OSError):
        return ""
    return adapter_card(facts)

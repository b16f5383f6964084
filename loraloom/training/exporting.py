"""Exporting an experiment's best adapter, with its card, to the run's `adapters/` (or `failed/`)."""

from __future__ import annotations

from pathlib import Path

import torch

from loraloom.bank.adapter_tensors import adapted_linears
from loraloom.bank.peft_base import portable_name
from loraloom.bank.peft_folder import write_adapter
from loraloom.base.targets import other_linears, peft_target_modules
from loraloom.errors import LoRALoomError
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.folder import Run
from loraloom.run.integrity import record
from loraloom.text.catalogue import filled
from loraloom.training.adapter_card import adapter_card
from loraloom.training.card_facts import read_facts
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState


def export_folder(run: Run, state: TrainingState, name: str) -> Path | None:
    """Return the folder, relative to the run, for an ended experiment's adapter; None if it has no adapter.

    The adapter of a failed experiment is not a result, so it is kept in `failed/`.
    """
    progress = state.progress[name]
    if progress.status != "failed":
        return Path(run.adapters.name, name)
    has_learnt = bool(progress.best_step) and bool(state.tensors[name].best)
    return Path(run.failed.name, name) if has_learnt else None


def export(setup: Setup, state: TrainingState, name: str) -> None:
    """Write the adapter of an experiment to its `export_folder`; the leader does so for all ranks."""
    if not setup.ranks.is_leader:
        return
    experiment = setup.experiment(name)
    progress, base = state.progress[name], setup.bank.base
    origin: dict[str, object] = {
        "experiment": name,
        "model_type": base.model.config.model_type,
        "head_is_tied": base.head_is_tied,
        "best_step": progress.best_step,
        "best_metric": progress.best_metric,
        "metric_for_best_model": experiment.training.metric_for_best_model,
    }
    if base.quantization != UNQUANTIZED:
        origin["quantization"] = base.quantization
    if tokens := base.answer_text.special_in(setup.train_set.target_tokens.tolist()):
        origin["answer_tokens"] = tokens  # `skip_special_tokens` would drop these from its answers
    if base.languages is not None:
        rows = ((row.input_ids.tolist(), row.labels.tolist()) for row in setup.train_set)
        pairs = {pair for row in rows if (pair := base.languages.pair_of(*row)) is not None}
        origin |= base.languages.origin(list(pairs), base.start_token_id)
    folder = export_folder(setup.run, state, name)
    assert folder is not None, f"{name} has learnt nothing"
    has_failed = progress.status == "failed"
    target = setup.run.folder / folder
    target.parent.mkdir(exist_ok=True)
    write_adapter(
        target,
        base=base,
        settings=experiment.lora,
        tensors=state.tensors[name].best,
        available=setup.bank.available,
        origin={**origin, "status": progress.status} if has_failed else origin,
        card=_warning(name, progress.best_step)
        if has_failed
        else _card(setup, name, state.tensors[name].best, origin),
    )
    record(setup.run, sorted(path for path in target.iterdir() if path.is_file()))


def _warning(name: str, step: int | None) -> str:
    heading = filled("{experiment} failed", experiment=name)
    text = filled(
        "This is what the experiment had learnt by step {step}, before it failed. The adapter is not a "
        "result, but training can start from it with `lora.init_adapter`. The run's result.json has the "
        "reason.",
        step=step,
    )
    return f"# {heading}\n\n{text}\n"


def _card(setup: Setup, name: str, tensors: dict[str, torch.Tensor], origin: dict[str, object]) -> str:
    """Return the adapter's README, made from the run's files; empty if they cannot be read."""
    base = setup.bank.base
    adapted = adapted_linears(tensors)
    named = {"base": portable_name(base.name), "base_fingerprint": base.fingerprint, **origin}
    try:
        others = other_linears(base.model, base.family)
        modules = peft_target_modules(adapted, setup.bank.available, others)
        facts = read_facts(setup.run, name, named, modules)
    except (LoRALoomError, OSError):
        return ""
    return adapter_card(facts)

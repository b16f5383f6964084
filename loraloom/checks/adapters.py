"""Checks of adapters on real rows: targets, hidden states at the start of training, and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states, span_losses
from loraloom.bank.updates.kinds import num_weights
from loraloom.base.adapter_targets import matches_of
from loraloom.base.loading import Base
from loraloom.base.targets import Match, other_linears
from loraloom.checks.finding import Finding
from loraloom.checks.gate import Gate, batch_of
from loraloom.checks.silent_modules import describe_silent
from loraloom.data.batches import Batch
from loraloom.data.ownership import Rows, training_rows
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe import Experiment
from loraloom.text.message import Message

ADAPTERS_AT_ONCE = 8


def check_targets(gate: Gate) -> list[Finding]:
    """Report how many linears each target pattern of each experiment matches."""
    findings = []
    for experiment in gate.experiments:
        matches = matches_of(gate.base.model, gate.base.family, experiment.lora)
        findings += [_target_finding(experiment, match) for match in matches]
    return [*findings, *_not_adapted(gate.base)]


def _not_adapted(base: Base) -> list[Finding]:
    """Report linears outside of the text encoder and decoder that a target list might be meant to include."""
    own = {name: base.model.get_submodule(name) for name in other_linears(base.model, base.family)}
    others = [name for name, module in own.items() if module is not base.head]
    if not others:
        return []
    places = ", ".join(sorted({".".join(name.split(".")[:3]) for name in others}))
    message = Message(
        "{num_others} linears of {places} are not adapted, because only linears that process text are",
        num_others=len(others),
        places=places,
    )
    return [Finding("note", "targets", "base", message)]


def _target_finding(experiment: Experiment, match: Match) -> Finding:
    called = f" ({match.own_name})" if match.own_name else ""
    ranks = {experiment.lora.at(target.name).r for target in match.targets}
    low, high = min(ranks), max(ranks)
    message = Message(
        "`{pattern}`{called} matches {num_targets} linears, {num_adapter_parameters:,} adapter "
        "weights at r {r}",
        pattern=match.pattern,
        called=called,
        num_targets=len(match.targets),
        num_adapter_parameters=num_weights(experiment.lora, match.targets),
        r=str(low) if low == high else f"{low}–{high}",
    )
    return Finding("ok", "targets", Message("{name}: lora.target_modules", name=experiment.name), message)


def check_adapters(gate: Gate) -> list[Finding]:
    """Check that new adapters change nothing and get finite, nonzero gradients, and that the base gets none.

    As in training, several experiments share each pass.
    """
    findings = []
    together = _adapters_at_once(gate)
    for start in range(0, len(gate.experiments), together):
        experiments = gate.experiments[start : start + together]
        bank = AdapterBank(gate.base)
        for experiment in experiments:
            bank.attach(experiment.name, experiment.lora, experiment.seed, gate.initial.get(experiment.name))
        try:
            starts = _starts_as_base(gate, bank, experiments)
            gradients = _get_gradients(gate, bank, experiments)
        finally:
            for experiment in experiments:
                bank.drop(experiment.name)
        findings += [finding for pair in zip(starts, gradients, strict=True) for finding in pair]
    return findings


def _adapters_at_once(gate: Gate) -> int:
    """Return how many adapters share a pass without needing more memory than a training pass."""
    num_tokens = sum(len(row.input_ids) + len(row.labels) for row in gate.rows)
    return max(1, min(ADAPTERS_AT_ONCE, pass_tokens(gate.base) // num_tokens))


@torch.no_grad()
def _starts_as_base(gate: Gate, bank: AdapterBank, experiments: Sequence[Experiment]) -> list[Finding]:
    slots = [None, *(experiment.name for experiment in experiments)]
    batch = batch_of(gate.base, slots, gate.rows, packing=True)
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        plain, *adapted = hidden_states(gate.base, batch).split(batch.num_rows[0])
    findings = []
    for experiment, states in zip(experiments, adapted, strict=True):
        difference = float((states - plain).abs().max())
        if experiment.name in gate.initial:
            message: str = Message(
                "continues from an adapter: hidden states differ from the base's by up to {difference:.2g}",
                difference=difference,
            )
            findings.append(Finding("note", "start", experiment.name, message))
        elif difference > gate.tolerance * float(plain.abs().max()):
            message = Message(
                "at the start its hidden states differ from the base's by {difference:.2g}",
                difference=difference,
            )
            findings.append(Finding("error", "start", experiment.name, message))
        else:
            how = (
                Message("exactly the base's hidden states")
                if difference == 0
                else Message("the base's hidden states within {difference:.1e}", difference=difference)
            )
            findings.append(
                Finding("ok", "start", experiment.name, Message("at the start it gives {how}", how=how))
            )
    return findings


def _get_gradients(gate: Gate, bank: AdapterBank, experiments: Sequence[Experiment]) -> list[Finding]:
    names = [experiment.name for experiment in experiments]
    batch = batch_of(gate.base, names, gate.rows, packing=True)
    seeds = {experiment.name: experiment.seed for experiment in experiments}
    with bank.rows(training_rows(batch, seeds=seeds, steps=dict.fromkeys(names, 0), micro_batch=0)):
        (span_losses(gate.base, batch).sum() / batch.num_labels[0]).backward()
    base_is_frozen = all(parameter.grad is None for parameter in gate.base.model.parameters())
    return [_gradient_finding(bank, name, base_is_frozen, batch) for name in names]


def _gradient_finding(bank: AdapterBank, name: str, base_is_frozen: bool, batch: Batch) -> Finding:
    # While B is 0, the gradient of A is 0 too; a gradient in any tensor is enough.
    norms = {
        module: math.hypot(*(float(p.grad.norm()) for p in part.parameters.values() if p.grad is not None))
        for module, part in bank.parts(name).items()
    }
    total = math.sqrt(sum(norm**2 for norm in norms.values()))
    if not base_is_frozen:
        return Finding("error", "gradient", name, Message("the base received a gradient, but must be frozen"))
    if not math.isfinite(total) or total == 0:
        return Finding(
            "error",
            "gradient",
            name,
            Message("the norm of the gradient is {total}", total=total),
            Message("Try dtype: float32."),
        )
    if 0 in norms.values():
        message: str = describe_silent(bank, norms, batch)
        return Finding("warning", "gradient", name, message, Message("Remove them from lora.target_modules."))
    message = Message(
        "all {num_norms} modules get a gradient, norm {total:.3g}; the base gets none",
        num_norms=len(norms),
        total=total,
    )
    return Finding("ok", "gradient", name, message)

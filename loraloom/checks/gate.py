"""The gate: fast checks on real rows and the real model, always run by `train` and `check`.

To add a check, write a function and add it to a tuple in `model_suite.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states, part_losses
from loraloom.bank.ownership import Rows, shares_of, training_rows
from loraloom.base.loading import Base
from loraloom.base.targets import Match, other_linears, resolve_targets
from loraloom.checks.finding import Finding
from loraloom.checks.silent_modules import describe_silent
from loraloom.data.batches import Batch, Part, collate
from loraloom.data.encoding import IGNORED, EncodedExample, EncodedSet
from loraloom.evaluate.decoding import describe_unused, unused_settings
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe import Experiment, GenerationSettings

# Rows at these quantiles of length: short ones, because large models are slow, and of different lengths,
# so that packing puts two of them in one row.
LENGTH_QUANTILES = (0.0, 0.1, 0.2, 0.5)
ADAPTERS_AT_ONCE = 8
# Relative; a bfloat16 product has 8 bits of mantissa, and sums over hundreds of products are compared.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
# A token without an embedding ends a pass with an IndexError.
CRASHING = ("shapes", "tokenizer")
# Nats above a uniform guess. A model trained only on span filling (mT5) may be there and is still trainable.
WORSE_THAN_CHANCE = 1.0
WHY_WORSE = (
    "The base has not learnt such rows (mT5 was trained only to fill gaps: mt0 is a better start), or its "
    "head or tokenizer belongs to another model."
)


@dataclass(frozen=True)
class Gate:
    """Inputs of the checks.

    Args:
        base: frozen, without attached adapters.
        experiments: experiments to train.
        initial: tensors of adapters from which training continues.
        train_set: encoded training rows.
        rows: a few of them.
        batch: these rows, laid out as in training.
        generation: settings with which answers are generated.
    """

    base: Base
    experiments: Sequence[Experiment]
    initial: dict[str, dict[str, torch.Tensor]]
    train_set: EncodedSet
    rows: Sequence[EncodedExample]
    batch: Batch
    generation: GenerationSettings = field(default_factory=GenerationSettings)

    @property
    def distinct_experiments(self) -> list[Experiment]:
        """The first experiment of each set that differs only in its seed."""
        first: dict[str, Experiment] = {}
        for experiment in self.experiments:
            first.setdefault(experiment.group, experiment)
        return list(first.values())

    @property
    def tolerance(self) -> float:
        """Maximum relative difference between two ways to compute the same value."""
        return TOLERANCE[self.base.model.dtype]


def run_gate(
    base: Base,
    experiments: Sequence[Experiment],
    initial: dict[str, dict[str, torch.Tensor]],
    train_set: EncodedSet,
    *,
    packing: bool,
    checks: Sequence[Callable[[Gate], list[Finding]]],
    generation: GenerationSettings | None = None,
) -> list[Finding]:
    """Run checks on a few real rows, in order.

    If a pass through the base would crash, the remaining checks are skipped.
    """
    by_length = np.argsort(train_set.source_lengths + train_set.target_lengths, kind="stable")
    rows = [train_set[int(by_length[int(share * len(train_set))])] for share in LENGTH_QUANTILES]
    batch, decoding = _batch(base, [None], rows, packing), generation or GenerationSettings()
    gate = Gate(base, experiments, initial, train_set, rows, batch, decoding)
    findings: list[Finding] = []
    for check in checks:
        findings += check(gate)
        if any(finding.level == "error" and finding.check in CRASHING for finding in findings):
            break
    return findings


def _batch(base: Base, slots: Sequence[str | None], rows: Sequence[EncodedExample], packing: bool) -> Batch:
    return collate(
        [Part(slot, rows) for slot in slots],
        base.layout,
        packing=packing,
    ).to(base.device)


def check_shapes(gate: Gate) -> list[Finding]:
    """Check shapes and dtypes of a real batch, and that every token is within the vocabulary."""
    batch, problems = gate.batch, []
    for name in ("input_ids", "decoder_input_ids", "labels"):
        tensor = getattr(batch, name)
        if tensor.dtype != torch.int64 or tensor.dim() != 2:
            problems.append(f"{name} is {tensor.dtype} {list(tensor.shape)}")
    vocabulary = gate.base.model.get_input_embeddings().weight.shape[0]
    largest = int(max(batch.input_ids.max(), batch.labels.max()))
    if largest >= vocabulary:
        problems.append(f"token {largest} exceeds the {vocabulary} embeddings")
    if problems:
        return [Finding("error", "shapes", "batch", "; ".join(problems))]
    shapes = f"input_ids {list(batch.input_ids.shape)} and labels {list(batch.labels.shape)}"
    dtype = str(gate.base.model.dtype).removeprefix("torch.")
    message = f"{len(gate.rows)} rows as {shapes}, int64; base in {dtype}"
    return [Finding("ok", "shapes", "batch", message)]


def check_labels(gate: Gate) -> list[Finding]:
    """Check that every label row ends in EOS and that exactly the padding is -100."""
    batch, eos = gate.batch, gate.base.eos_token_id
    flat = batch.labels.cpu()
    is_padding = (batch.target_segments == 0).cpu()
    if bool(((flat == IGNORED) != is_padding).any()):
        message = "the positions that are -100 in the labels are not exactly the padding"
        return [Finding("error", "labels", "labels", message)]
    languages = gate.base.languages
    without = gate.train_set.without_end(eos, () if languages is None else languages.codes.values())
    if len(without):
        message = f"{len(without)} rows do not end in EOS, the first is training row {without[0] + 1}"
        return [Finding("error", "labels", "labels", message)]
    message = f"all {len(gate.train_set)} label rows end in EOS"
    padding = f"{int(is_padding.sum())} of {flat.numel()} positions of a batch are -100, all of them padding"
    return [Finding("ok", "labels", "labels", f"{message}; {padding}")]


@torch.no_grad()
def check_loss(gate: Gate) -> list[Finding]:
    """Check the training loss against the model's own forward, one row and one token at a time."""
    base = gate.base
    with AdapterBank(base).rows(Rows(shares_of(gate.batch))):
        ours = float(part_losses(base, gate.batch).sum()) / sum(gate.batch.num_labels)
    total = 0.0
    for row in gate.rows:
        labels = torch.from_numpy(row.labels).long().to(base.device)
        out = base.model(
            input_ids=torch.from_numpy(row.input_ids).long().to(base.device)[None],
            labels=labels[None],
            use_cache=False,
            **base.family.forward_options(len(labels), base.device),
        )
        log_probabilities = F.log_softmax(out.logits[0].float(), dim=-1)
        total -= float(sum(log_probabilities[position, token] for position, token in enumerate(labels)))
    theirs = total / sum(gate.batch.num_labels)
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        message = f"the base's own loss is {theirs}"
        return [Finding("error", "loss", "base", message, "Try dtype: float32, or another base.")]
    if abs(ours - theirs) > gate.tolerance * abs(theirs):
        message = f"training computes {ours:.6f}, the model's own forward {theirs:.6f}"
        return [Finding("error", "loss", "objective", message, "This is a bug; please report it.")]
    computed = f"{theirs:.4f} by the model's own forward, {ours:.4f} in training"
    chance = math.log(base.head.weight.shape[0])
    if theirs > chance + WORSE_THAN_CHANCE:
        message = f"{computed}: worse than a uniform guess among all tokens, which gives {chance:.2f}"
        return [Finding("note", "loss", "base", message, WHY_WORSE)]
    return [Finding("ok", "loss", "objective", computed)]


def check_targets(gate: Gate) -> list[Finding]:
    """Report the linears that every pattern of every experiment matches."""
    findings = []
    for experiment in gate.experiments:
        matches = resolve_targets(gate.base.model, gate.base.family, experiment.lora.target_modules)
        findings += [_target_finding(experiment, match) for match in matches]
    return [*findings, *_not_adapted(gate.base)]


def _not_adapted(base: Base) -> list[Finding]:
    """Note linears that a target list might mean and that are no part of the text encoder or decoder."""
    own = {name: base.model.get_submodule(name) for name in other_linears(base.model, base.family)}
    others = [name for name, module in own.items() if module is not base.head]
    if not others:
        return []
    places = ", ".join(sorted({".".join(name.split(".")[:3]) for name in others}))
    message = f"{len(others)} linears of {places} are not adapted: only those that read text are"
    return [Finding("note", "targets", "base", message)]


def _target_finding(experiment: Experiment, match: Match) -> Finding:
    called = f" ({match.own_name})" if match.own_name else ""
    message = (
        f"`{match.pattern}`{called} matches {len(match.targets)} linears, "
        f"{match.num_adapter_parameters(experiment.lora.r):,} adapter weights at r {experiment.lora.r}"
    )
    return Finding("ok", "targets", f"{experiment.name}: lora.target_modules", message)


def check_adapters(gate: Gate) -> list[Finding]:
    """Check that a new adapter changes nothing yet and gets a finite, nonzero gradient; the base gets none.

    All experiments share a pass, as in training, a few at a time.
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
    """Limit adapters to those of a training pass, so that the gate needs no more memory than training."""
    num_tokens = sum(len(row.input_ids) + len(row.labels) for row in gate.rows)
    return max(1, min(ADAPTERS_AT_ONCE, pass_tokens(gate.base) // num_tokens))


@torch.no_grad()
def _starts_as_base(gate: Gate, bank: AdapterBank, experiments: Sequence[Experiment]) -> list[Finding]:
    slots = [None, *(experiment.name for experiment in experiments)]
    batch = _batch(gate.base, slots, gate.rows, packing=True)
    with bank.rows(Rows(shares_of(batch))):
        plain, *adapted = hidden_states(gate.base, batch).split(batch.num_rows[0])
    findings = []
    for experiment, states in zip(experiments, adapted, strict=True):
        difference = float((states - plain).abs().max())
        if experiment.name in gate.initial:
            message = f"continues from an adapter: states differ from the base's by up to {difference:.2g}"
            findings.append(Finding("note", "start", experiment.name, message))
        elif difference > gate.tolerance * float(plain.abs().max()):
            message = f"with B = 0 its hidden states differ from the base's by {difference:.2g}"
            findings.append(Finding("error", "start", experiment.name, message))
        else:
            how = (
                "exactly the base's hidden states"
                if difference == 0
                else f"the base's hidden states within {difference:.1e}"
            )
            findings.append(Finding("ok", "start", experiment.name, f"with B = 0 it gives {how}"))
    return findings


def _get_gradients(gate: Gate, bank: AdapterBank, experiments: Sequence[Experiment]) -> list[Finding]:
    names = [experiment.name for experiment in experiments]
    batch = _batch(gate.base, names, gate.rows, packing=True)
    seeds = {experiment.name: experiment.seed for experiment in experiments}
    with bank.rows(training_rows(batch, seeds=seeds, steps=dict.fromkeys(names, 0), micro_batch=0)):
        (part_losses(gate.base, batch).sum() / batch.num_labels[0]).backward()
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
        return Finding("error", "gradient", name, "the base received a gradient, but must be frozen")
    if not math.isfinite(total) or total == 0:
        return Finding(
            "error", "gradient", name, f"the norm of the gradient is {total}", "Try dtype: float32."
        )
    if 0 in norms.values():
        message = describe_silent(bank, norms, batch)
        return Finding("warning", "gradient", name, message, "Remove them from target_modules.")
    message = f"all {len(norms)} modules get a gradient, norm {total:.3g}; the base gets none"
    return Finding("ok", "gradient", name, message)


def check_generation(gate: Gate) -> list[Finding]:
    """Report what the base's own generation settings request and answers here do not follow."""
    unused = describe_unused(gate.base, gate.generation)
    if not unused:
        return [
            Finding(
                "ok", "generation", "generation", "the base's own generation settings request nothing else"
            )
        ]
    ours = [
        key for key in unused_settings(gate.base, gate.generation) if key in GenerationSettings.model_fields
    ]
    fix = f"To follow the base, set {', '.join(sorted(ours))} in `generation`." if ours else ""
    return [Finding("note", "generation", "base", unused, fix)]

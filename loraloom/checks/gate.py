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
from loraloom.bank.objective import span_losses
from loraloom.base.loading import Base
from loraloom.checks.finding import Finding
from loraloom.data.batches import Batch, SlotExamples, collate
from loraloom.data.encoding import IGNORED, EncodedExample, EncodedSet
from loraloom.data.ownership import Rows
from loraloom.evaluate.decoding import describe_unused, unused_settings
from loraloom.recipe import Experiment, GenerationSettings
from loraloom.text.message import Message, joined

# Rows at these quantiles of length: short ones, because large models are slow, and of different lengths,
# so that packing puts two of them in one row.
LENGTH_QUANTILES = (0.0, 0.1, 0.2, 0.5)
# Relative; a bfloat16 product has 8 bits of mantissa, and sums over hundreds of products are compared.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
# Nats. A loss is a difference of float32 values of up to a few hundred, whose rounding is a large share of
# a small loss, as on rows that the base knows.
LOSS_ROUNDING = 3e-5
# A token without an embedding ends a pass with an IndexError.
CRASHING = ("shapes", "tokenizer")
# Nats above a uniform guess. A model trained only on span filling (mT5) may be there and is still trainable.
WORSE_THAN_CHANCE = 1.0
WHY_WORSE = Message(
    "The base has not learnt such rows (mT5 was trained only to fill gaps: mt0 is a better "
    "start), or its head or tokenizer belongs to another model."
)


@dataclass(frozen=True)
class Gate:
    """Inputs to the model checks.

    Args:
        base: frozen, without attached adapters.
        experiments: experiments to train.
        initial: tensors of the adapters that training continues from, by experiment name and tensor name.
        train_set: encoded training rows.
        rows: a few of the training rows.
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
        """The first of each set of experiments that differ only in their seeds."""
        first: dict[str, Experiment] = {}
        for experiment in self.experiments:
            first.setdefault(experiment.group, experiment)
        return list(first.values())

    @property
    def tolerance(self) -> float:
        """Maximum relative difference between the results of two ways to compute the same value."""
        return TOLERANCE[self.base.model.dtype]

    def are_near(self, loss: float, wanted: float) -> bool:
        """Return whether two losses per token are equal up to rounding."""
        return math.isclose(loss, wanted, rel_tol=self.tolerance, abs_tol=LOSS_ROUNDING)


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

    Args:
        base, experiments, initial, train_set: as in `Gate`.
        packing: whether training packs several examples into a row.
        checks: checks to run.
        generation: settings with which answers are generated; the default settings if None.
    """
    by_length = np.argsort(train_set.source_lengths + train_set.target_lengths, kind="stable")
    rows = [train_set[int(by_length[int(share * len(train_set))])] for share in LENGTH_QUANTILES]
    batch, decoding = batch_of(base, [None], rows, packing), generation or GenerationSettings()
    gate = Gate(base, experiments, initial, train_set, rows, batch, decoding)
    findings: list[Finding] = []
    for check in checks:
        findings += check(gate)
        if any(finding.level == "error" and finding.check in CRASHING for finding in findings):
            break
    return findings


def batch_of(base: Base, slots: Sequence[str | None], rows: Sequence[EncodedExample], packing: bool) -> Batch:
    """Lay out the same rows once for each slot, as in training."""
    return collate(
        [SlotExamples(slot, rows) for slot in slots],
        base.layout,
        packing=packing,
    ).to(base.device)


def check_shapes(gate: Gate) -> list[Finding]:
    """Check shapes and dtypes of a real batch, and that every token is within the vocabulary."""
    batch, problems = gate.batch, []
    for name in ("input_ids", "decoder_input_ids", "labels"):
        tensor = getattr(batch, name)
        if tensor.dtype != torch.int64 or tensor.dim() != 2:
            problems.append(
                Message("{name} is {dtype} {list}", name=name, dtype=tensor.dtype, list=list(tensor.shape))
            )
    vocabulary = gate.base.model.get_input_embeddings().weight.shape[0]
    largest = int(max(batch.input_ids.max(), batch.labels.max()))
    if largest >= vocabulary:
        problems.append(
            Message(
                "token {largest} is beyond the {vocabulary} embeddings",
                largest=largest,
                vocabulary=vocabulary,
            )
        )
    if problems:
        return [Finding("error", "shapes", "batch", joined("; ", problems))]
    shapes = Message(
        "input_ids {list} and labels {list_2}",
        list=list(batch.input_ids.shape),
        list_2=list(batch.labels.shape),
    )
    dtype = str(gate.base.model.dtype).removeprefix("torch.")
    message = Message(
        "{num_rows} rows as {shapes}, int64; base in {dtype}",
        num_rows=len(gate.rows),
        shapes=shapes,
        dtype=dtype,
    )
    return [Finding("ok", "shapes", "batch", message)]


def check_labels(gate: Gate) -> list[Finding]:
    """Check that every label row ends in EOS, and that padding, and nothing else, is -100."""
    batch, eos = gate.batch, gate.base.eos_token_id
    flat = batch.labels.cpu()
    is_padding = (batch.target_segments == 0).cpu()
    if bool(((flat == IGNORED) != is_padding).any()):
        message: str = Message("the positions that are -100 in the labels differ from those of the padding")
        return [Finding("error", "labels", "labels", message)]
    languages = gate.base.languages
    without = gate.train_set.without_end(eos, () if languages is None else languages.codes.values())
    if len(without):
        message = Message(
            "{num_without} rows do not end in EOS; the first is training row {without}",
            num_without=len(without),
            without=without[0] + 1,
        )
        return [Finding("error", "labels", "labels", message)]
    ends = Message("all {num_train_set} label rows end in EOS", num_train_set=len(gate.train_set))
    padding = Message(
        "{int} of {numel} positions of a batch are -100, all of them padding",
        int=int(is_padding.sum()),
        numel=flat.numel(),
    )
    return [Finding("ok", "labels", "labels", Message("{ends}; {padding}", ends=ends, padding=padding))]


@torch.no_grad()
def check_loss(gate: Gate) -> list[Finding]:
    """Check the training loss against that of the model's own `forward`, one row and one token at a time."""
    base = gate.base
    with AdapterBank(base).rows(Rows(gate.batch.slots, gate.batch.num_rows)):
        ours = float(span_losses(base, gate.batch).sum()) / sum(gate.batch.num_labels)
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
        message: str = Message("the base's own loss is {theirs}", theirs=theirs)
        return [Finding("error", "loss", "base", message, Message("Try dtype: float32, or another base."))]
    if not gate.are_near(ours, theirs):
        message = Message(
            "the loss is {ours:.6f} in training, but {theirs:.6f} in the model's own forward pass",
            ours=ours,
            theirs=theirs,
        )
        return [Finding("error", "loss", "objective", message, Message("This is a bug; please report it."))]
    computed = Message(
        "{theirs:.4f} in the model's own forward pass, {ours:.4f} in training", theirs=theirs, ours=ours
    )
    chance = math.log(base.head.weight.shape[0])
    if theirs > chance + WORSE_THAN_CHANCE:
        message = Message(
            "{computed}: worse than a uniform guess among all tokens, which gives {chance:.2f}",
            computed=computed,
            chance=chance,
        )
        return [Finding("note", "loss", "base", message, WHY_WORSE)]
    return [Finding("ok", "loss", "objective", computed)]


def check_generation(gate: Gate) -> list[Finding]:
    """Report settings in the base's own generation config that LoRALoom does not follow in answers."""
    penalized = _penalized_end(gate)
    unused = describe_unused(gate.base, gate.generation)
    if not unused:
        return penalized or [
            Finding(
                "ok",
                "generation",
                "generation",
                Message("answers follow all of the base's own generation settings"),
            )
        ]
    ours = [
        key for key in unused_settings(gate.base, gate.generation) if key in GenerationSettings.model_fields
    ]
    fix = (
        Message("To follow the base, set {ours} in `generation`.", ours=", ".join(sorted(ours)))
        if ours
        else ""
    )
    return [*penalized, Finding("note", "generation", "base", unused, fix)]


def _penalized_end(gate: Gate) -> list[Finding]:
    """Return a note if answers begin with EOS, so that a repetition penalty makes their end less likely.

    transformers' `generate` penalizes the decoder's start token as if it had been generated. LoRALoom does
    the same, because merged models are used with `generate`. The start token of BART, M2M100 and NLLB is EOS
    (transformers 5.24).
    """
    base, penalty = gate.base, gate.generation.repetition_penalty
    starts = {base.decoder_start_of(row.labels.tolist()).start_token_id for row in gate.rows}
    if penalty <= 1 or base.eos_token_id not in starts:
        return []
    message = Message(
        "answers of this base begin with {end}, which is also how they end, and the penalty makes tokens "
        "that already occurred less likely: answers become longer, though nothing is repeated",
        end=repr(base.tokenizer.convert_ids_to_tokens(base.eos_token_id)),
    )
    fix = Message("Use generation.no_repeat_ngram_size instead.")
    return [Finding("note", "generation", "generation.repetition_penalty", message, fix)]

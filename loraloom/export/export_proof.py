"""Proof of an export: the outputs of its own runtime, compared with those of base + adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import eq
from typing import Any, Self

from loraloom.bank.bank import AdapterBank
from loraloom.evaluate.comparison import ModelAnswers, compute_evidence
from loraloom.evaluate.scoring import score_against
from loraloom.export.export_reference import Reference
from loraloom.export.proof import proof_failed
from loraloom.export.runtime import ProofRows, RuntimeOutputs
from loraloom.run.documents.comparison import BASE_NAME, Difference
from loraloom.text.message import Message

# Rows whose answers are compared if the export is rounded, so that figures have an interval.
NUM_ROUNDED_ROWS = 64
# Allowed difference of a log-probability, relative to the largest that is expected: two runtimes add in
# different orders. A wrong scale or a missing norm changes log-probabilities by whole nats.
TOLERANCE = 2e-3
EXPORT = "export"


@dataclass(frozen=True)
class ProofMeasurement:
    """Differences between the outputs of a runtime and those of base + adapter.

    Args:
        num_answers, num_same_answers: number of greedy answers, and how many of them are equal.
        largest_gap: how much more probable base + adapter's token is than the runtime's where an answer first
            deviates, according to base + adapter, in nats: the maximum over the answers. A gap near 0 is a
            tie; None if not measured.
        largest_difference: largest difference in the log-probability of a target token, in nats; None if the
            runtime gives no log-probabilities.
        mean_expected, mean_found: mean log-probability of the target tokens, from base + adapter and from
            the runtime; `mean_found` is None if the runtime gives no log-probabilities.
        num_same_decoded: number of answers with the recipe's decoding settings that are equal; None if these
            settings were not tried.
    """

    num_answers: int
    num_same_answers: int
    largest_gap: float | None
    largest_difference: float | None
    mean_expected: float
    mean_found: float | None
    num_same_decoded: int | None = None


@dataclass(frozen=True)
class ExportProof:
    """Results of the proof of an export.

    Args:
        rows: description of the rows that the export was tested on.
        runtime, computed_in: the program that ran the export, and the number format it computed in.
        is_exact: whether equality up to float32 rounding was required.
        measured: how the export's outputs differ from those of base + adapter in float32.
        figures: how the export's figures differ from those of base + adapter; empty unless responses are
            known and the export is rounded.
        merging: largest change that merging made to a logit, in float32; None if nothing was merged.
        decoding: those of the recipe's decoding settings that differ from greedy decoding.
    """

    rows: str
    runtime: str
    computed_in: str
    is_exact: bool
    measured: ProofMeasurement
    figures: list[Difference]
    merging: float | None
    decoding: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Restore a proof from the result of `dataclasses.asdict`."""
        figures = [Difference(**own) for own in values["figures"]]
        return cls(**{**values, "measured": ProofMeasurement(**values["measured"]), "figures": figures})


def measure(outputs: RuntimeOutputs, reference: Reference, rows: ProofRows) -> ProofMeasurement:
    """Compare the outputs of a runtime with the reference.

    Raises:
        ModelError: the runtime gives NaN, infinity, or a different number of answers or tokens.
    """
    found, decoded = outputs.log_probabilities, outputs.decoded
    if (
        len(outputs.answers) != len(reference.answers)
        or (decoded is not None and len(decoded) != len(reference.decoded))
        or (
            found is not None
            and [len(own) for own in found] != [len(own) for own in reference.log_probabilities]
        )
    ):
        raise proof_failed(Message("the format's own runtime gives a different number of answers or tokens"))
    pairs = list(zip(outputs.answers, reference.answers, strict=True))
    expected = [each for own in reference.log_probabilities for each in own]
    given = None if found is None else [each for own in found for each in own]
    if given is not None and not all(map(math.isfinite, given)):
        raise proof_failed(
            Message("the format's own runtime gives log-probabilities that are NaN or infinite"),
            found=Message(
                "{num_bad} of {num_tokens}",
                num_bad=sum(not math.isfinite(each) for each in given),
                num_tokens=len(given),
            ),
        )
    return ProofMeasurement(
        num_answers=len(pairs),
        num_same_answers=sum(own == wanted for own, wanted in pairs),
        largest_gap=_largest_gap(pairs, reference, rows.eos_token_id) if reference.nearest else None,
        largest_difference=None
        if given is None
        else max((abs(a - b) for a, b in zip(given, expected, strict=True)), default=0.0),
        mean_expected=sum(expected) / max(1, len(expected)),
        mean_found=None if given is None else sum(given) / max(1, len(given)),
        num_same_decoded=None if decoded is None else sum(map(eq, decoded, reference.decoded)),
    )


def _largest_gap(pairs: Sequence[tuple[list[int], list[int]]], reference: Reference, eos: int) -> float:
    """Compute the largest gap, in logits, by which base + adapter prefers its token where answers diverge."""
    gaps = [0.0]
    for (found, wanted), likely in zip(pairs, reference.nearest, strict=True):
        own, expected = [*found, eos], [*wanted, eos]
        at = next((at for at, (a, b) in enumerate(zip(own, expected, strict=False)) if a != b), None)
        if at is not None:
            top = likely[at]
            gaps.append(max(top.values()) - top[own[at]] if own[at] in top else math.inf)
    return max(gaps)


def check_exact(measured: ProofMeasurement, reference: Reference) -> None:
    """Check that all log-probabilities are equal up to rounding, and that answers deviate only at ties.

    Raises:
        ModelError: the export's outputs differ.
    """
    largest = max((abs(each) for own in reference.log_probabilities for each in own), default=0.0)
    allowed = TOLERANCE * max(1.0, largest)
    if (measured.largest_difference or 0.0) <= allowed and (measured.largest_gap or 0.0) <= 2 * allowed:
        return
    raise proof_failed(
        Message("the export, run by its own runtime, gives different outputs from base + adapter"),
        found=Message(
            "log-probabilities differ by up to {largest_difference:.3g}; {num_same_answers} of "
            "{num_answers} answers are the same",
            largest_difference=math.nan
            if measured.largest_difference is None
            else measured.largest_difference,
            num_same_answers=measured.num_same_answers,
            num_answers=measured.num_answers,
        ),
        allowed=Message("a difference of at most {allowed:.3g}", allowed=allowed),
    )


def check_encodings(outputs: RuntimeOutputs, rows: ProofRows) -> None:
    """Check that the runtime's own tokenizer, if it has one, gives the same tokens as the run's tokenizer.

    Raises:
        ModelError: the tokens of the two tokenizers differ.
    """
    if outputs.encodings is None or rows.text_at is not None:
        return
    for own, wanted in zip(outputs.encodings, rows.sources, strict=False):
        if own[: len(wanted) - 1] != list(wanted[:-1]):  # up to the cut of a truncated source
            raise proof_failed(Message("the runtime's own tokenizer gives different tokens from the run's"))


def figure_differences(
    outputs: RuntimeOutputs, reference: Reference, responses: Sequence[str], bank: AdapterBank
) -> list[Difference]:
    """Compute how the export's figures differ from those of base + adapter, with intervals as in `compare`.

    Args:
        responses: the known answer of each row.
    """
    text = bank.base.answer_text
    scoring = score_against(responses, text)
    num_labels = [len(own) for own in reference.log_probabilities]
    losses = [-sum(own) for own in reference.log_probabilities]
    theirs = ModelAnswers(text.texts(reference.answers), [len(own) for own in reference.answers], losses)
    given = outputs.log_probabilities
    ours = ModelAnswers(
        text.texts(outputs.answers),
        [len(own) for own in outputs.answers],
        losses if given is None else [-sum(own) for own in given],
    )
    groups = {BASE_NAME: [BASE_NAME], EXPORT: [EXPORT]}
    evidence = compute_evidence({BASE_NAME: theirs, EXPORT: ours}, groups, scoring, num_labels)
    return [each for each in evidence.differences if each.metric != "eval_loss" or given is not None]

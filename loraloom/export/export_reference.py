"""Outputs of base + adapter in float32, each computed once, for the proof of an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.data.example import Example
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.ownership import Rows
from loraloom.evaluate.generation import answer
from loraloom.export.fresh_process import teacher_forced
from loraloom.export.merged_folder import merge_proven
from loraloom.export.proof import NUM_ROWS, TARGET_TOKENS, proof_rows, with_answers
from loraloom.export.runtime import ProofRows, answered_at_once, each_alone, parts_of
from loraloom.export.transformers_answers import of_targets
from loraloom.recipe import GenerationSettings
from loraloom.training.card_facts import Facts
from loraloom.training.signals import StopRequest

# Tokens whose probabilities are kept at each position, to distinguish a tie from a difference.
NUM_NEAREST = 5


@dataclass(frozen=True)
class Reference:
    """Outputs of base + adapter in float32.

    Args:
        answers: greedy answers, without the start token and EOS.
        log_probabilities: one for each token of each target up to EOS.
        nearest: for each position of each answer, including that of EOS, the ids of the most probable tokens
            with their logits; empty if equality is not required.
        decoded: answers with the recipe's decoding settings; empty if these settings are not tried.
    """

    answers: list[list[int]]
    log_probabilities: list[list[float]]
    nearest: list[list[dict[int, float]]]
    decoded: list[list[int]] = field(default_factory=list)


@torch.no_grad()
def reference_answers(
    bank: AdapterBank, slot: str, rows: ProofRows, *, with_nearest: bool
) -> tuple[list[list[int]], list[list[dict[int, float]]]]:
    """Compute greedy answers of base + adapter in float32, without the start token and EOS.

    Args:
        bank: the bank, with the adapter attached.
        slot: the adapter.
        rows: input for the model; the targets are not read.
        with_nearest: whether to keep the most probable tokens, to distinguish a tie from a difference.

    Returns:
        The answers, and the most probable tokens as in `Reference`.
    """
    nearest: list[list[dict[int, float]]] = [[] for _ in rows.sources]

    def keep(lines: Sequence[int], logits: Tensor) -> None:
        found = logits.topk(NUM_NEAREST, dim=1)
        for row, ids, own in zip(lines, found.indices.tolist(), found.values.tolist(), strict=True):
            nearest[row].append(dict(zip(ids, own, strict=True)))

    settings = GenerationSettings(max_new_tokens=rows.max_new_tokens, batch_size=answered_at_once(rows))
    starts = [DecoderStart(*each) for each in zip(rows.start_token_ids, rows.forced_token_ids, strict=True)]
    on_logits = keep if with_nearest else None
    found = answer(bank, [slot], rows.sources, settings, starts=starts, on_logits=on_logits)[slot]
    return found, nearest if with_nearest else []


@torch.no_grad()
def reference_log_probabilities(bank: AdapterBank, slot: str, rows: ProofRows) -> list[list[float]]:
    """Compute the log-probability of each token of each target up to EOS, by base + adapter in float32.

    Args:
        bank: the bank, with the adapter attached.
        slot: the adapter.
        rows: rows with targets.
    """
    model = bank.base.model.eval()
    found: list[list[float]] = []
    for part in parts_of(rows):
        with bank.rows(Rows((slot,), (len(part.sources),))):
            found += of_targets(teacher_forced(model, part), part)
    return found


def merge_scored(
    bank: AdapterBank,
    facts: Facts,
    examples: Sequence[Example],
    rows: ProofRows,
    answers: list[list[int]],
    folder: Path,
    stop: StopRequest,
) -> tuple[list[list[float]], float]:
    """Compute the targets' log-probabilities, merge the adapter, and check the merged model's logits.

    Merging is checked with the logits of the first rows, cut to fewer tokens. If these are all the rows and
    no row was cut, as in a lossless export, the log-probabilities are computed from the same logits.

    Args:
        bank: the bank, with the adapter attached; the adapter is merged into the base's weights.
        facts: facts about the adapter.
        examples, rows, answers: those of the export's proof.
        folder: folder to create, for the logits of base + adapter.
        stop: checked between parts of the work.

    Returns:
        The log-probability of each token of each target up to EOS by base + adapter, and the largest
        change that merging made to a logit.

    Raises:
        ModelError: the merged model's outputs differ.
        RunError: the logits could not be written.
    """
    name, first = facts.experiment.name, examples[:NUM_ROWS]
    few = proof_rows(bank.base, facts.recipe, first, facts.languages)
    few = with_answers(few, first, answers, TARGET_TOKENS)
    number = len(few.sources)
    known = [each[: few.max_new_tokens] for each in answers[:number]]
    are_all = few.sources == rows.sources and few.targets == rows.targets
    scored = [] if are_all else reference_log_probabilities(bank, name, rows)
    is_uncut = few.sources == rows.sources[:number]
    stored, _, merging = merge_proven(bank, name, few, folder, stop, known if is_uncut else None)
    if are_all:
        each = enumerate(each_alone(few))
        scored = [own for at, row in each for own in of_targets(stored.logits(at), row)]
    return scored, merging.max_difference

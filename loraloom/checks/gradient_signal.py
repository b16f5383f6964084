"""How far the gradients of individual rows agree before training, for `movement_forecast.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import span_losses
from loraloom.bank.updates.update import Update
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.data.ownership import Rows
from loraloom.recipe import LoraSettings

PROBE_RANK = 4


@dataclass(frozen=True)
class Signal:
    """Statistics of the gradients of individual rows, for an adapter before its first step.

    Args:
        loss: loss of the base, in nats per label token.
        agreement: agreement of the rows, c in `movement_forecast.py`: 0 if their gradients have nothing in
            common, 1 if they are equal.
        slope: Σ|g| over all elements of B, where |g| is the root mean square of the rows' gradients; divided
            by the rank, for a scaling of 1.
    """

    loss: float
    agreement: float
    slope: float

    def common(self, num_rows: int) -> float:
        """Return q(n), the squared mean gradient of n = `num_rows` rows relative to that of one row."""
        return self.agreement + (1 - self.agreement) / num_rows


def spread(examples: EncodedSet, number: int, most_tokens: int) -> list[EncodedExample]:
    """Choose rows that cover the range of lengths, except the longest rows.

    Args:
        examples: rows to choose from.
        number: number of rows; if more than 2, halved while the rows together exceed `most_tokens`.
        most_tokens: maximum number of source and target tokens of the rows together.
    """
    order = (examples.source_lengths + examples.target_lengths).argsort(kind="stable")
    rows = [examples[int(order[len(order) * (2 * place + 1) // (2 * number + 2)])] for place in range(number)]
    if number <= 2 or sum(len(row.input_ids) + len(row.labels) for row in rows) <= most_tokens:
        return rows
    return spread(examples, number // 2, most_tokens)


def measure(bank: AdapterBank, lora: LoraSettings, rows: Sequence[EncodedExample]) -> Signal:
    """Measure the gradients of B for each row in one backward pass, in which each row has its own slot."""
    base, slots = bank.base, [str(number) for number in range(len(rows))]
    probe = LoraSettings(
        r=PROBE_RANK,
        lora_alpha=PROBE_RANK,
        lora_dropout=0.0,
        target_modules=lora.target_modules,
        layers_to_transform=lora.layers_to_transform,
        layers_pattern=lora.layers_pattern,
    )
    batch = collate(
        [SlotExamples(slot, [row]) for slot, row in zip(slots, rows, strict=True)],
        base.layout,
        packing=True,
    ).to(base.device)
    try:
        for slot in slots:
            bank.attach(slot, probe, seed=0)
        with bank.rows(Rows(batch.slots, batch.num_rows)):
            losses = span_losses(base, batch)
            (losses / losses.new_tensor(batch.num_labels)).sum().backward()
        parts = [bank.parts(slot) for slot in slots]
        gradients = [torch.stack([_gradient(part[name]) for part in parts]) for name in parts[0]]
    finally:
        for slot in bank.slots:
            bank.drop(slot)
    loss = float(losses.detach().sum()) / sum(batch.num_labels)
    return Signal(loss, agreement(gradients), sum(_slope(g) for g in gradients) / PROBE_RANK)


def _gradient(part: Update) -> Tensor:
    B = part.parameters["lora_B"]
    return torch.zeros_like(B) if B.grad is None else B.grad


def agreement(gradients: Sequence[Tensor]) -> float:
    """Compute how much the gradients of rows agree, each element on its own scale, as AdamW sees it.

    For n numbers g, (Σg)² / Σg² averages 1 if their signs are random, and is n if all are equal.

    Args:
        gradients: tensors [rows, …].

    Returns:
        The mean agreement of all elements that have a gradient: 0 if signs are random, 1 if all are equal.
    """
    total, count = 0.0, 0
    for g in gradients:
        squares = g.square().sum(0)
        is_moved = squares > 0
        ratio = g.sum(0).square()[is_moved] / squares[is_moved]
        total += float((ratio - 1).sum()) / max(1, len(g) - 1)
        count += len(ratio)
    return min(1.0, max(0.0, total / max(1, count)))


def _slope(gradients: Tensor) -> float:
    return float(gradients.square().mean(0).sqrt().sum())

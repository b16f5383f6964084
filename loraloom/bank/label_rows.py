"""Positions of a batch's labels, padded to a rounded number, so that the host need not wait for the device.

`objective.span_losses` finds the labels on the device, and the host must wait to learn how many there are.
Here the labels are found on the host, before the batch is copied to the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.bank.objective import hidden_states, output_head
from loraloom.base.loading import Base
from loraloom.data.batches import Batch
from loraloom.data.encoding import IGNORED
from loraloom.kernels.cross_entropy import token_losses

SMALLEST = 64


@dataclass(frozen=True)
class LabelRows:
    """The positions of the labels of a batch.

    Args:
        positions: int64 [n], in the flattened labels; 0 for padding.
        labels: int64 [n], the labels at these positions; 0 for padding.
        spans: int64 [n], the index of the span of each label; for padding, the number of spans.
        places: int64 [rows · len], for each position, its index in `positions`; -1 if it has no label.
    """

    positions: Tensor
    labels: Tensor
    spans: Tensor
    places: Tensor


def rounded(num_labels: int) -> int:
    """Round a number of labels up to a multiple of `SMALLEST`, or if it is large, by at most an eighth."""
    step = max(SMALLEST, 1 << max(0, num_labels.bit_length() - 4))
    return -(-num_labels // step) * step


def find_label_rows(batch: Batch) -> LabelRows:
    """Find the positions of the labels of a batch, on the CPU."""
    labels = batch.labels.reshape(-1)
    found = (labels != IGNORED).nonzero()[:, 0]
    num, num_spans = len(found), len(batch.num_labels)
    size = rounded(num)
    positions, own, spans = (torch.zeros(size, dtype=torch.int64) for _ in range(3))
    positions[:num], own[:num] = found, labels[found]
    spans[:num] = torch.arange(num_spans).repeat_interleave(torch.tensor(batch.num_labels))
    spans[num:] = num_spans
    places = torch.full((len(labels),), -1)
    places[found] = torch.arange(num)
    return LabelRows(positions, own, spans, places)


class _Take(torch.autograd.Function):
    """The states at label positions, taken so that the backward pass gathers too and is deterministic."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return states[positions]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        gradient = upstream[places.clamp(min=0)]
        return gradient.masked_fill_((places < 0)[:, None], 0.0), None, None


def label_row_losses(base: Base, batch: Batch, rows: LabelRows) -> Tensor:
    """Compute each span's summed loss, float32 [spans], like `objective.span_losses` without smoothing.

    Args:
        base: the base, with the adapters attached.
        batch: the batch, on the device.
        rows: the positions of its labels, from `find_label_rows`, on the device.
    """
    hidden = hidden_states(base, batch)
    states = _Take.apply(hidden.reshape(-1, hidden.shape[-1]), rows.positions, rows.places)  # type: ignore[no-untyped-call]
    losses = token_losses(states, rows.labels, output_head(base))
    is_own = rows.spans[:, None] == torch.arange(len(batch.num_labels), device=losses.device)
    return torch.where(is_own, losses[:, None], 0.0).sum(0)

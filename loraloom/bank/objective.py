"""The losses of all adapters from one pass: base → positions with labels → output head → cross-entropy.

Only positions with a label go through the head, and `kernels/cross_entropy.py` never stores all their logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loraloom.bank.token_head import TiedHead
from loraloom.base.loading import Base
from loraloom.data.batches import Batch
from loraloom.data.encoding import IGNORED
from loraloom.kernels.cross_entropy import token_losses
from loraloom.kernels.output_head import OutputHead


def output_head(base: Base) -> OutputHead:
    """Return a base's output head, with the output scale and soft cap that its model family prescribes."""
    config, family = base.model.config, base.family
    return OutputHead(
        weight=base.head_weight,
        scale=family.output_scale(config),
        bias=base.head_bias,
        softcap=family.softcap(config),
    )


def hidden_states(base: Base, batch: Batch) -> Tensor:
    """Compute the decoder's last states, [rows, target_len, d]; a token attends only to its own example."""
    model, family = base.model, base.family
    positions = batch.positions if family.counts_positions else {"source": None, "target": None}
    encoded = family.encode(model, batch.input_ids, batch.encoder_mask, positions["source"])
    return family.decode(
        model,
        batch.decoder_input_ids,
        batch.decoder_mask,
        encoded,
        batch.cross_mask,
        positions["target"],
    )


def span_losses(base: Base, batch: Batch, label_smoothing: Sequence[float] = ()) -> Tensor:
    """Compute the summed loss of each span of a batch, float32 [spans], in one pass through the base.

    Callers divide by the number of label tokens of the whole optimizer step.

    Args:
        base: the base, with the adapters attached.
        batch: the batch.
        label_smoothing: label smoothing of each span; by default none.
    """
    _, losses = _label_losses(base, batch, label_smoothing)
    return torch.stack([own.sum() for own in losses.split(list(batch.num_labels))])


def example_losses(base: Base, batch: Batch) -> list[Tensor]:
    """Compute the summed loss of each example, in input order: for each span, float32 [examples]."""
    positions, losses = _label_losses(base, batch)
    by_position = losses.new_zeros(batch.labels.numel())
    by_position[positions] = losses
    by_row = by_position.view_as(batch.labels)
    sums, first_row = [], 0
    for segments, num_rows in zip(batch.segments["target"], batch.num_rows, strict=True):
        own = [by_row[first_row + s.row, s.start : s.start + s.length].sum() for s in segments]
        sums.append(torch.stack(own))
        first_row += num_rows
    return sums


def _label_losses(base: Base, batch: Batch, label_smoothing: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
    """Return the positions of the labels in the flattened batch, int64 [n], and their losses, float32 [n]."""
    hidden = hidden_states(base, batch)
    labels = batch.labels.reshape(-1)
    positions = (labels != IGNORED).nonzero()[:, 0]  # spans follow one another, and so do their labels
    states = hidden.reshape(-1, hidden.shape[-1])[positions]
    smoothing = None
    if any(label_smoothing):
        counts = torch.tensor(batch.num_labels)
        smoothing = torch.tensor(label_smoothing).repeat_interleave(counts).to(states.device)
    compute = base.head.losses_of(batch, token_losses) if isinstance(base.head, TiedHead) else token_losses
    return positions, compute(states, labels[positions], output_head(base), smoothing)

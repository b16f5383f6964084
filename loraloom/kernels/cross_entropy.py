"""Cross-entropy of labels over a large vocabulary, with its gradient, without storing all logits.

The gradient of a token's loss with respect to its hidden state h is

    ∂/∂h ( log Σ_v exp(W_v h) − W_y h )  =  Σ_v softmax(W h)_v W_v  −  W_y

This is an attention of h over the rows of W, minus one row, so it is computed like attention, in one sweep
over tiles of the vocabulary: each tile of W is read once, for the loss and for the gradient. Of the logits of
250,112 tokens, only a tile is stored at a time.

On a CPU, the sweep for a plain head (without bias or cap) subtracts the label's logit within the first
product (`_sweep`). All other cases keep a running maximum (online softmax: Milakov & Gimelshein, 2018,
https://arxiv.org/abs/1805.02867; Dao et al., 2022): a head with a bias or a cap, label smoothing, float16 and
extreme logits in `full_sweep.py`, and GPUs in `sweep_in_place.py`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.kernels.dispatch import by_triton
from loraloom.kernels.full_sweep import full_sweep
from loraloom.kernels.output_head import OutputHead, all_logits
from loraloom.kernels.sweep_in_place import sweep_in_place

# At d 512, V 250,112 and 195 rows on one core, this is 1.4 (float32) to 2.9 (bfloat16) times as fast as
# full logits: `benchmarks/objective.py` prints it.
TILE_COLUMNS = 4_096  # a tile and its rows of W stay in the cache from one product to the next
BLOCK_ROWS = 1_024
GPU_BLOCK_ROWS = 8_192  # smaller products do not fill the chip
MOST_TOTAL = 1e30  # of exponentials, far enough below float32's largest number for their products with W


def token_losses(hidden: Tensor, labels: Tensor, head: OutputHead, smoothing: Tensor | None = None) -> Tensor:
    """Compute the negative log-likelihood of each label, or its label-smoothed cross-entropy.

    Args:
        hidden: the decoder's last states at label positions, [n, d].
        labels: int64 [n]; -1 means no label (the loss is log Σ exp) and requires a head with a bias.
        head: frozen; gradients flow to `hidden` only, without second derivatives.
        smoothing: float32 [n], each row's `label_smoothing` as in torch's `cross_entropy`; may be None.

    Returns:
        float32 [n].
    """
    return _TokenLoss.apply(hidden, labels, head, smoothing)  # type: ignore[no-any-return, no-untyped-call]


def plain_token_losses(
    hidden: Tensor, labels: Tensor, head: OutputHead, smoothing: Tensor | None = None
) -> Tensor:
    """Compute the same as `token_losses`, by torch's cross-entropy over all logits: the test oracle.

    Args:
        hidden, labels, head, smoothing: as in `token_losses`, but each row needs a label.
    """
    logits = all_logits(head, hidden)
    losses = F.cross_entropy(logits, labels, reduction="none")
    if smoothing is None:
        return losses
    return (1 - smoothing) * losses + smoothing * (logits.logsumexp(1) - logits.mean(1))


class _TokenLoss(torch.autograd.Function):
    """Negative log-likelihood of each row's label; see the top of this file."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, head: OutputHead, smoothing: Tensor | None
    ) -> Tensor:
        needs_gradient = bool(ctx.needs_input_grad[0])
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if needs_gradient else None
        block_rows = GPU_BLOCK_ROWS if hidden.is_cuda else BLOCK_ROWS
        for start in range(0, len(hidden), block_rows):
            block = slice(start, start + block_rows)
            own, epsilon = (None if each is None else each[block] for each in (gradient, smoothing))
            losses[block] = _block_losses(hidden[block], labels[block], head, own, epsilon)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None].to(gradient.dtype), None, None, None


def _block_losses(
    hidden: Tensor, labels: Tensor, head: OutputHead, gradient: Tensor | None, smoothing: Tensor | None
) -> Tensor:
    """Compute the losses of a block of rows, float32 [n], with the fastest sweep that can compute them."""
    if smoothing is None and head.bias is None and head.softcap is None:
        if by_triton(hidden):
            return sweep_in_place(hidden, labels, head.weight, head.scale, gradient)
        has_range = hidden.dtype is not torch.float16  # whose largest number is exp(11)
        if has_range and (losses := _sweep(hidden, labels, head, gradient)) is not None:
            return losses
    return full_sweep(hidden, labels, head, gradient, smoothing, TILE_COLUMNS)


def _sweep(hidden: Tensor, labels: Tensor, head: OutputHead, gradient: Tensor | None) -> Tensor | None:
    """Compute the losses of a block of rows, float32 [n], for a plain head and without label smoothing.

    With y for a row's label and s for the sum over all v ≠ y of exp(W_v h − W_y h),

        loss = log(1 + s)      ∂loss/∂h = (Σ exp(W_v h − W_y h) W_v − s W_y) / (1 + s)

    so there is no cancellation, however confident a model is. The first product subtracts W_y h, rounded
    to the head's dtype, before it rounds its own result: a tile needs no maximum and no float32. `r` corrects
    the rounding of W_y h. The result is None if another logit is so much larger than the label's that the
    sums might overflow.
    """
    scaled = hidden * head.scale if head.scale != 1.0 else hidden
    label_rows = head.weight[labels].float()
    wanted = (scaled.float() * label_rows).sum(1)
    subtracted = wanted.to(hidden.dtype)
    others, weighted = torch.zeros_like(wanted), torch.zeros_like(label_rows)
    in_order, rows = labels.sort()
    firsts = range(0, len(head.weight), TILE_COLUMNS)
    bounds = torch.searchsorted(in_order, torch.tensor([*firsts, len(head.weight)], device=labels.device))
    scratch = hidden.new_empty(len(hidden) * min(TILE_COLUMNS, len(head.weight)))
    for first, (start, stop) in zip(firsts, pairwise(bounds.tolist()), strict=True):
        weight = head.weight[first : first + TILE_COLUMNS]
        tile = scratch[: len(hidden) * len(weight)].view(len(hidden), len(weight))
        torch.addmm(-subtracted[:, None], scaled, weight.t(), out=tile).exp_()
        if start < stop:
            tile[rows[start:stop], in_order[start:stop] - first] = 0
        others += tile.sum(1, dtype=torch.float32)
        if gradient is not None:
            weighted += tile @ weight
    if not float(others.max()) < MOST_TOTAL:  # or the maximum is NaN
        return None
    r = torch.exp(wanted - subtracted.float())
    if gradient is not None:
        own = torch.addcmul(weighted, others[:, None], label_rows, value=-1) / (others + r)[:, None]
        gradient.copy_(own * head.scale)
    return torch.log1p(others / r)

"""The loss's sweep over the head, with each tile of logits overwritten by its softmax weights.

On a GPU one kernel does all work between the two products of a tile (`cross_entropy_kernels.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from loraloom.kernels.dispatch import by_triton

TILE_COLUMNS = 16_384
GPU_TILE_COLUMNS = 32_768  # with 8,192 rows, a tile of logits takes half a gigabyte


def sweep_in_place(
    hidden: Tensor, labels: Tensor, weight: Tensor, scale: float, gradient: Tensor | None
) -> Tensor:
    """Compute losses and gradients of a block of rows, without bias, cap or label smoothing.

    Args:
        hidden: [n, d].
        labels: int64 [n].
        weight: weight of the head, [vocabulary, d].
        scale: factor that multiplies the hidden states before the head.
        gradient: overwritten with ∂loss/∂hidden, [n, d], if given.

    Returns:
        float32 [n].
    """
    scaled = hidden * scale if scale != 1.0 else hidden
    peak = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    total, wanted = torch.zeros_like(peak), torch.zeros_like(peak)
    mean_row = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
    columns = GPU_TILE_COLUMNS if hidden.is_cuda else TILE_COLUMNS
    for first in range(0, len(weight), columns):
        tile = weight[first : first + columns]
        logits = scaled @ tile.t()
        shrink = softmax_tile_(logits, labels, first, peak, total, wanted)
        if gradient is not None:
            torch.addcmul(logits @ tile, mean_row, shrink[:, None], out=mean_row)
    if gradient is not None:
        mean_row.div_(total[:, None]).sub_(weight[labels])
        gradient.copy_(mean_row.mul_(scale))
    return peak + total.log() - wanted


def softmax_tile_(
    logits: Tensor, labels: Tensor, first: int, peak: Tensor, total: Tensor, wanted: Tensor
) -> Tensor:
    """Add a tile of logits to the softmax so far, and overwrite it with exp(logit - peak).

    Args:
        logits: [n, tile], contiguous; overwritten.
        labels: int64 [n].
        first: token id of the first column.
        peak, total, wanted: float32 [n], updated: the largest logit so far, the sum of exp(logit - peak), and
            the label's logit.

    Returns:
        float32 [n], the factor that earlier sums must be multiplied by.
    """
    if by_triton(logits):
        from loraloom.kernels.cross_entropy_kernels import softmax_tile_ as in_one_kernel

        return in_one_kernel(logits, labels, first, peak, total, wanted)
    own = logits.float()
    new_peak = torch.maximum(peak, own.amax(1))
    shrink = torch.exp(peak - new_peak)
    weights = torch.exp(own - new_peak[:, None])
    here = (labels >= first) & (labels < first + logits.shape[1])
    at_label = own.gather(1, (labels - first).clamp(0, logits.shape[1] - 1)[:, None])[:, 0]
    wanted.copy_(torch.where(here, at_label, wanted))
    total.mul_(shrink).add_(weights.sum(1))
    peak.copy_(new_peak)
    logits.copy_(weights)
    return shrink

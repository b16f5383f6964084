"""The loss's sweep over the vocabulary for any head and any logits: bias, soft cap, label smoothing.

The running maximum of each row's logits is subtracted, and earlier sums are scaled down whenever it grows
(online softmax). On a CPU, a head without bias or cap needs this only for extreme logits, for float16 and for
label smoothing; see `cross_entropy.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loraloom.kernels.label_smoothing import UniformShare
from loraloom.kernels.output_head import OutputHead


def full_sweep(
    hidden: Tensor,
    labels: Tensor,
    head: OutputHead,
    gradient: Tensor | None,
    smoothing: Tensor | None,
    tile_columns: int,
) -> Tensor:
    """Compute losses and gradients of a block of rows, for any head.

    Args:
        hidden: [n, d].
        labels: int64 [n]; -1 for no label, allowed only if the head has a bias.
        head: frozen.
        gradient: overwritten with ∂loss/∂hidden, [n, d], if given.
        smoothing: float32 [n], label smoothing of each row; None for none.
        tile_columns: number of vocabulary entries whose logits are computed at once.

    Returns:
        float32 [n].
    """
    uniform = UniformShare(smoothing, hidden) if smoothing is not None else None
    scaled = hidden * head.scale if head.scale != 1.0 else hidden
    peak = torch.full((len(hidden),), -torch.inf, device=hidden.device)
    total = torch.zeros(len(hidden), device=hidden.device)
    wanted = torch.zeros(len(hidden), device=hidden.device)
    slope_at_label = (labels >= 0).float()
    mean_row = torch.zeros(hidden.shape, dtype=torch.float32, device=hidden.device)
    for first in range(0, len(head.weight), tile_columns):
        weight = head.weight[first : first + tile_columns]
        logits = (scaled @ weight.t()).float()
        if head.bias is not None:
            logits += head.bias[first : first + tile_columns].float()
        if head.softcap is not None:
            logits = head.softcap * torch.tanh(logits / head.softcap)
        here = (labels >= first) & (labels < first + len(weight))
        at_label = (labels - first).clamp(0, len(weight) - 1)[:, None]
        label_logits = logits.gather(1, at_label)[:, 0]
        wanted = torch.where(here, label_logits, wanted)
        new_peak = torch.maximum(peak, logits.amax(1))
        shrink = torch.exp(peak - new_peak)
        # d(capped)/d(logit), which is 1 without a cap
        slope = 1 - (logits / head.softcap).square() if head.softcap is not None else None
        if uniform is not None:
            uniform.add(logits, weight, slope)
        weights = logits.sub_(new_peak[:, None]).exp_()
        total = total * shrink + weights.sum(1)
        peak = new_peak
        if gradient is not None:
            if slope is not None:
                weights *= slope
                slope_at_label = torch.where(here, slope.gather(1, at_label)[:, 0], slope_at_label)
            mean_row.mul_(shrink[:, None]).add_(weights.to(weight.dtype) @ weight)
    if gradient is not None:
        label_rows = head.weight[labels].float() * slope_at_label[:, None]
        if uniform is not None:
            label_rows = uniform.blend_rows(label_rows)
        gradient.copy_((mean_row / total[:, None] - label_rows) * head.scale)
    if uniform is not None:
        wanted = uniform.blend_logits(wanted)
    return peak + total.log() - wanted

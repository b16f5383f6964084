"""The softmax of a vocabulary tile as one Triton kernel, which reads and writes the tile once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _tile(
    logits,
    labels,
    peak,
    total,
    wanted,
    shrink,
    first,
    width,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    is_column = column < width
    own = tl.load(logits + row * width + column, mask=is_column, other=float("-inf")).to(tl.float32)
    old_peak = tl.load(peak + row)
    new_peak = tl.maximum(old_peak, tl.max(own, axis=0))
    smaller = tl.exp(old_peak - new_peak)
    weights = tl.exp(own - new_peak)
    tl.store(peak + row, new_peak)
    tl.store(shrink + row, smaller)
    tl.store(total + row, tl.load(total + row) * smaller + tl.sum(weights, axis=0))
    label = tl.load(labels + row) - first
    if (label >= 0) & (label < width):
        tl.store(wanted + row, tl.sum(tl.where(column == label, own, 0.0), axis=0))
    tl.store(logits + row * width + column, weights.to(logits.dtype.element_ty), mask=is_column)


def softmax_tile_(
    logits: Tensor, labels: Tensor, first: int, peak: Tensor, total: Tensor, wanted: Tensor
) -> Tensor:
    """Compute `sweep_in_place.softmax_tile_`."""
    shrink = torch.empty_like(peak)
    num, width = logits.shape
    _tile[(num,)](
        logits,
        labels,
        peak,
        total,
        wanted,
        shrink,
        first,
        width,
        BLOCK=triton.next_power_of_2(width),
        num_warps=32 if width > 16_384 else 16,
    )
    return shrink

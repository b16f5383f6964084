"""T5's norm and its gradient as Triton kernels; `norm.py` has the plain versions."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 4


@triton.jit
def _forward(x, weight, out, inverse, num_rows, width, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    here = (row < num_rows)[:, None] & (column < width)[None, :]
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    own = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(own * own, axis=1) / width + eps)
    tl.store(inverse + row, scale, mask=row < num_rows)
    tl.store(out + at, (own * scale[:, None] * w[None, :]).to(out.dtype.element_ty), mask=here)


@triton.jit
def _backward(
    upstream,
    kept,
    x,
    weight,
    inverse,
    into_x,
    num_rows,
    width,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    here = (row < num_rows)[:, None] & (column < width)[None, :]
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    own = tl.load(x + at, mask=here, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    g = tl.load(upstream + at, mask=here, other=0.0).to(tl.float32) * w[None, :]
    beside = tl.load(kept + at, mask=here, other=0.0).to(tl.float32)
    scale = tl.load(inverse + row, mask=row < num_rows, other=0.0)
    normed = own * scale[:, None]
    mean = tl.sum(g * normed, axis=1) / width
    result = (g - normed * mean[:, None]) * scale[:, None] + beside
    tl.store(into_x + at, result.to(into_x.dtype.element_ty), mask=here)


def norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute the normalized rows, and the inverse of each row's root mean square, float32 [rows]."""
    flat = x.view(-1, x.shape[-1])
    out = torch.empty_like(x)
    inverse = torch.empty(len(flat), dtype=torch.float32, device=x.device)
    size = {"ROWS": ROWS, "BLOCK": triton.next_power_of_2(flat.shape[1])}
    _forward[(triton.cdiv(len(flat), ROWS),)](x, weight, out, inverse, *flat.shape, eps, **size)
    return out, inverse


def norm_backward(upstream: Tensor, kept: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """Compute the gradient of x from the gradients of the norm's output and of the residual connection."""
    flat = x.view(-1, x.shape[-1])
    out = torch.empty_like(x)
    size = {"ROWS": ROWS, "BLOCK": triton.next_power_of_2(flat.shape[1])}
    _backward[(triton.cdiv(len(flat), ROWS),)](upstream, kept, x, weight, inverse, out, *flat.shape, **size)
    return out

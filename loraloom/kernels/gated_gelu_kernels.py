"""The gate of a feed-forward as Triton kernels; `gated_gelu.py` has the plain version."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1_024
_SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)
_CUBIC = tl.constexpr(0.044715)


@triton.jit
def _tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def _forward(gate, value, out, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    x = tl.load(gate + at, mask=here, other=0.0).to(tl.float32)
    v = tl.load(value + at, mask=here, other=0.0).to(tl.float32)
    t = _tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x))
    tl.store(out + at, (0.5 * x * (1.0 + t) * v).to(out.dtype.element_ty), mask=here)


@triton.jit
def _backward(upstream, gate, value, into_gate, into_value, size, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = at < size
    g = tl.load(upstream + at, mask=here, other=0.0).to(tl.float32)
    x = tl.load(gate + at, mask=here, other=0.0).to(tl.float32)
    v = tl.load(value + at, mask=here, other=0.0).to(tl.float32)
    t = _tanh(_SQRT_2_OVER_PI * (x + _CUBIC * x * x * x))
    slope = 0.5 * x * (1.0 - t * t) * _SQRT_2_OVER_PI * (1.0 + 3.0 * _CUBIC * x * x)
    slope += 0.5 * (1.0 + t)
    tl.store(into_gate + at, (g * v * slope).to(into_gate.dtype.element_ty), mask=here)
    tl.store(into_value + at, (g * 0.5 * x * (1.0 + t)).to(into_value.dtype.element_ty), mask=here)


def gated_gelu(gate: Tensor, value: Tensor) -> Tensor:
    """Compute `gated_gelu.gated_gelu`."""
    gate, value = gate.contiguous(), value.contiguous()
    out = torch.empty_like(gate)
    _forward[(triton.cdiv(gate.numel(), BLOCK),)](gate, value, out, gate.numel(), BLOCK=BLOCK)
    return out


def gated_gelu_backward(upstream: Tensor, gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of `gated_gelu`."""
    into_gate, into_value = torch.empty_like(gate), torch.empty_like(value)
    grid = (triton.cdiv(gate.numel(), BLOCK),)
    _backward[grid](upstream, gate, value, into_gate, into_value, gate.numel(), BLOCK=BLOCK)
    return into_gate, into_value

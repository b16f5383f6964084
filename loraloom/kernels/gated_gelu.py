"""gelu(gate) · value, elementwise: the gate in the feed-forward of T5 1.1 and its successors.

It is computed in float32 and rounded once, whereas transformers rounds in between.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.kernels.dispatch import by_triton


class _GatedGelu(torch.autograd.Function):
    """gelu(gate) · value, with the tanh approximation; keeps only its two inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return _gated_gelu(gate, value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = ctx.saved_tensors
        return _gated_gelu_backward(upstream.contiguous(), gate, value)


def gated_gelu(gate: Tensor, value: Tensor) -> Tensor:
    """Compute gelu(gate) · value, elementwise; both are contiguous and of the same shape."""
    return _GatedGelu.apply(gate, value)  # type: ignore[no-any-return, no-untyped-call]


def _gated_gelu(gate: Tensor, value: Tensor) -> Tensor:
    if by_triton(gate):
        from loraloom.kernels import gated_gelu_kernels

        return gated_gelu_kernels.gated_gelu(gate, value)
    return plain_gated_gelu(gate, value)


def _gated_gelu_backward(upstream: Tensor, gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    if by_triton(gate):
        from loraloom.kernels import gated_gelu_kernels

        return gated_gelu_kernels.gated_gelu_backward(upstream, gate, value)
    return plain_gated_gelu_backward(upstream, gate, value)


def plain_gated_gelu(gate: Tensor, value: Tensor) -> Tensor:
    """Compute `gated_gelu` with torch's own operations."""
    return (F.gelu(gate.float(), approximate="tanh") * value.float()).to(gate.dtype)


def plain_gated_gelu_backward(upstream: Tensor, gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of gate and value."""
    g, x, v = upstream.float(), gate.float(), value.float()
    into_gate = torch.ops.aten.gelu_backward(g * v, x, approximate="tanh")
    return into_gate.to(gate.dtype), (g * F.gelu(x, approximate="tanh")).to(value.dtype)

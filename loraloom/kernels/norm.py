"""T5's RMS norm of a layer's input, whose backward pass adds the gradient of the residual connection.

Source: Zhang & Sennrich, 2019, https://arxiv.org/abs/1910.07467.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.kernels.dispatch import by_triton


class _NormAndKeep(torch.autograd.Function):
    """A norm of x, and x itself; one kernel computes the sum of their gradients, not two as in autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        normed, inverse = _norm(x, weight, eps)
        ctx.save_for_backward(x, weight, inverse)
        return normed, x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, kept: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        result = _norm_backward(upstream.contiguous(), kept.contiguous(), x, weight, inverse)
        return result, None, None


class _Norm(torch.autograd.Function):
    """A frozen norm of x that keeps only x for the backward pass, not a tensor of each operation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        return stock_norm(x, weight, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        own, g = x.float(), upstream * weight.float()
        inverse = torch.rsqrt(own.square().mean(-1, keepdim=True) + ctx.eps)
        slope = (own * g).mean(-1, keepdim=True) * inverse.pow(3)
        return g.mul_(inverse).addcmul_(own, slope, value=-1).to(x.dtype), None, None


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute T5's norm of x, […, d]; on a CPU, the result is equal to that of transformers bit for bit."""
    if x.is_cuda:
        return F.rms_norm(x, weight.shape, weight, eps)
    if weight.requires_grad or not (torch.is_grad_enabled() and x.requires_grad):
        return stock_norm(x, weight, eps)
    return _Norm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]


def stock_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute transformers' T5LayerNorm, which rounds before it scales."""
    inverse = torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + eps)
    return weight * (x * inverse).to(weight.dtype)


def norm_and_keep(x: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """Return the norm of a layer's input, and the input itself for the residual connection.

    Args:
        x: [rows, len, d], contiguous.
        norm: transformers' norm or `FusedNorm`, frozen.
    """
    return _NormAndKeep.apply(x, norm.weight, norm.variance_epsilon)  # type: ignore[no-any-return, no-untyped-call]


def _norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute the normalized rows, and the inverse of each row's root mean square, float32 [rows]."""
    if by_triton(x):
        from loraloom.kernels import norm_kernels

        return norm_kernels.norm(x, weight, eps)
    return plain_norm(x, weight, eps)


def _norm_backward(upstream: Tensor, kept: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    if by_triton(x):
        from loraloom.kernels import norm_kernels

        return norm_kernels.norm_backward(upstream, kept, x, weight, inverse)
    return plain_norm_backward(upstream, kept, x, weight, inverse)


def plain_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Compute `_norm` with torch's own operations."""
    inverse = torch.rsqrt(x.float().square().mean(-1) + eps)
    return (x.float() * inverse[..., None] * weight.float()).to(x.dtype), inverse.reshape(-1)


def plain_norm_backward(upstream: Tensor, kept: Tensor, x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    """Compute the gradient of x from the gradients of the norm's output and of the residual connection."""
    g, scale = upstream.float() * weight.float(), inverse.view(*x.shape[:-1], 1)
    normed = x.float() * scale
    mean = (g * normed).mean(-1, keepdim=True)
    return ((g - normed * mean) * scale + kept.float()).to(x.dtype)

"""Attention over short rows, [rows, len, heads · size] in and out: a forward and a backward kernel on a GPU.

The kernels of libraries are built for rows of thousands of tokens, not of thirty, and need the bias expanded
to every row. If a bias has other strides (as in transformers 5.17), torch falls back to float32 products.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.kernels.dispatch import by_triton

MAX_LENGTH = 128


def plain_attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int
) -> Tensor:
    """Compute `attend` with torch's own operations."""
    q, k, v = (x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    lowest = torch.finfo(q.dtype).min
    full = bias if bias is not None else torch.zeros((), dtype=q.dtype, device=q.device)
    spread = torch.where(mask, full, lowest).contiguous()
    own = F.scaled_dot_product_attention(q, k, v, attn_mask=spread, scale=1.0)
    return own.transpose(1, 2).flatten(2)


class _ShortAttention(torch.autograd.Function):
    """`attend`, computed by the Triton kernels."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int) -> Tensor:  # noqa: E501 # fmt: skip
        from loraloom.kernels import attention_kernels as kernels

        ctx.save_for_backward(q, k, v, mask, *([bias] if bias is not None else []))
        ctx.num_heads = num_heads
        return kernels.attend(q, k, v, bias, mask, num_heads)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        from loraloom.kernels import attention_kernels as kernels

        q, k, v, mask, *bias = ctx.saved_tensors
        own = bias[0] if bias else None
        return (
            *kernels.attend_backward(upstream.contiguous(), q, k, v, own, mask, ctx.num_heads),
            None,
            None,
            None,
        )


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int) -> Tensor:
    """Compute softmax(q kᵀ + bias) v over the keys that the mask allows.

    Args:
        q: [rows, queries, heads · size], contiguous; not scaled, as in T5.
        k, v: [rows, keys, heads · size], contiguous.
        bias: [1, heads, queries, keys], frozen; or None.
        mask: bool [rows, 1, queries, keys], contiguous.
        num_heads: number of heads in the last dimension.

    Returns:
        [rows, queries, heads · size]; undefined for queries that see no key.
    """
    if by_triton(q) and max(q.shape[1], k.shape[1]) <= MAX_LENGTH:
        return _ShortAttention.apply(q, k, v, bias, mask, num_heads)  # type: ignore[no-any-return, no-untyped-call]
    return plain_attend(q, k, v, bias, mask, num_heads)

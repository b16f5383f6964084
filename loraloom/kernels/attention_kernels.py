"""Attention over rows of at most 128 tokens as Triton kernels, one program for each row and head.

Scores are never written to memory. The backward pass has no atomic additions, so it is reproducible bit for
bit.
`attention.py` has the plain version.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _weights(
    q,
    k,
    bias,
    mask,
    bias_h,
    bias_q,
    bias_k,
    h,
    b,
    num_queries,
    num_keys,
    HAS_BIAS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    i, j = tl.arange(0, BLOCK_Q)[:, None], tl.arange(0, BLOCK_K)[None, :]
    inside = (i < num_queries) & (j < num_keys)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    if HAS_BIAS:
        own = tl.load(bias + h * bias_h + i * bias_q + j * bias_k, mask=inside, other=0.0)
        scores += own.to(tl.float32)
    seen = tl.load(mask + b.to(tl.int64) * num_queries * num_keys + i * num_keys + j, mask=inside, other=0)
    scores = tl.where(seen != 0, scores, float("-inf"))
    peak = tl.max(scores, axis=1)
    peak = tl.where(peak == float("-inf"), 0.0, peak)  # a query that sees nothing, at padding
    weights = tl.exp(scores - peak[:, None])
    total = tl.sum(weights, axis=1)
    return weights / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit
def _attend(
    q_at,
    k_at,
    v_at,
    bias,
    mask,
    out,
    bias_h,
    bias_q,
    bias_k,
    num_queries,
    num_keys,
    width,
    size,
    HAS_BIAS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    D: tl.constexpr,
):
    h, b = tl.program_id(0), tl.program_id(1)
    i, j, d = tl.arange(0, BLOCK_Q)[:, None], tl.arange(0, BLOCK_K)[:, None], tl.arange(0, D)[None, :]
    is_query, is_key = (i < num_queries) & (d < size), (j < num_keys) & (d < size)
    at_q = b.to(tl.int64) * num_queries * width + i * width + h * size + d
    at_k = b.to(tl.int64) * num_keys * width + j * width + h * size + d
    q = tl.load(q_at + at_q, mask=is_query, other=0.0)
    k = tl.load(k_at + at_k, mask=is_key, other=0.0)
    v = tl.load(v_at + at_k, mask=is_key, other=0.0)
    weights = _weights(
        q, k, bias, mask, bias_h, bias_q, bias_k, h, b, num_queries, num_keys, HAS_BIAS, BLOCK_Q, BLOCK_K
    )
    own = tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    tl.store(out + at_q, own.to(v.dtype), mask=is_query)


@triton.jit
def _attend_backward(
    q_at,
    k_at,
    v_at,
    bias,
    mask,
    upstream,
    into_q,
    into_k,
    into_v,
    bias_h,
    bias_q,
    bias_k,
    num_queries,
    num_keys,
    width,
    size,
    HAS_BIAS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    D: tl.constexpr,
):
    h, b = tl.program_id(0), tl.program_id(1)
    i, j, d = tl.arange(0, BLOCK_Q)[:, None], tl.arange(0, BLOCK_K)[:, None], tl.arange(0, D)[None, :]
    is_query, is_key = (i < num_queries) & (d < size), (j < num_keys) & (d < size)
    at_q = b.to(tl.int64) * num_queries * width + i * width + h * size + d
    at_k = b.to(tl.int64) * num_keys * width + j * width + h * size + d
    q = tl.load(q_at + at_q, mask=is_query, other=0.0)
    k = tl.load(k_at + at_k, mask=is_key, other=0.0)
    v = tl.load(v_at + at_k, mask=is_key, other=0.0)
    g = tl.load(upstream + at_q, mask=is_query, other=0.0)
    weights = _weights(
        q, k, bias, mask, bias_h, bias_q, bias_k, h, b, num_queries, num_keys, HAS_BIAS, BLOCK_Q, BLOCK_K
    )
    own_v = tl.dot(tl.trans(weights.to(g.dtype)), g, input_precision="ieee")
    tl.store(into_v + at_k, own_v.to(v.dtype), mask=is_key)
    through = tl.dot(g, tl.trans(v), input_precision="ieee")
    mean = tl.sum(weights * through, axis=1)
    into_scores = (weights * (through - mean[:, None])).to(q.dtype)
    tl.store(into_q + at_q, tl.dot(into_scores, k, input_precision="ieee").to(q.dtype), mask=is_query)
    own_k = tl.dot(tl.trans(into_scores), q, input_precision="ieee")
    tl.store(into_k + at_k, own_k.to(k.dtype), mask=is_key)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int) -> Tensor:
    """Compute `attention.attend`."""
    out = torch.empty_like(q)
    _launch(_attend, q, k, v, bias, mask, num_heads, out)
    return out


def attend_backward(
    upstream: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of `attend`."""
    results = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    _launch(_attend_backward, q, k, v, bias, mask, num_heads, upstream, *results)
    return results


def _launch(
    kernel: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, mask: Tensor, num_heads: int,
    *more: Tensor,
) -> None:  # fmt: skip
    num_rows, num_queries, width = q.shape
    num_keys, size = k.shape[1], width // num_heads
    block_q, block_k = (max(16, triton.next_power_of_2(n)) for n in (num_queries, num_keys))
    kernel[(num_heads, num_rows)](
        q,
        k,
        v,
        bias if bias is not None else q,
        mask.view(torch.uint8),
        *more,
        *(bias.stride()[1:] if bias is not None else (0, 0, 0)),
        num_queries,
        num_keys,
        width,
        size,
        HAS_BIAS=bias is not None,
        BLOCK_Q=block_q,
        BLOCK_K=block_k,
        D=max(16, triton.next_power_of_2(size)),
        num_warps=2 if max(block_q, block_k) <= 32 else 4,
    )

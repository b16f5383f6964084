"""The products of a low-rank update as Triton kernels that also apply dropout.

Each kernel reads or writes its wide operand once. `products.py` has the plain versions and the documentation.
Block sizes are the best of a few that were timed on an H100 at widths of 1,024 and 2,816.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from loraloom.bank.fused.hashed import HashedDropout

# Number of tokens of all adapters above which blocks are larger; number of programs that fill the chip.
LARGE, PROGRAMS = 4_096, 528

# The constants of `hashed.py`; Triton reads globals only as constexpr.
_TOKEN_1 = tl.constexpr(0x9E3779B1)
_TOKEN_2 = tl.constexpr(0x85EBCA77)
_FEATURE = tl.constexpr(0xC2B2AE3D)
_MIX_1 = tl.constexpr(0x85EBCA6B)
_MIX_2 = tl.constexpr(0xC2B2AE35)


@triton.jit
def _mix(h):
    h = h ^ (h >> 16)
    h = h * _MIX_1
    h = h ^ (h >> 13)
    h = h * _MIX_2
    return h ^ (h >> 16)


@triton.jit
def _token_keys(ordinals, seeds, n, rows, is_token, salt_1, salt_2):
    token = tl.load(ordinals + rows, mask=is_token, other=0).to(tl.uint32, bitcast=False)
    word_1 = tl.load(seeds + 2 * n).to(tl.uint32, bitcast=True) ^ salt_1.to(tl.uint32, bitcast=True)
    word_2 = tl.load(seeds + 2 * n + 1).to(tl.uint32, bitcast=True) ^ salt_2.to(tl.uint32, bitcast=True)
    return _mix(token * _TOKEN_1 + word_1), _mix(token * _TOKEN_2 + word_2)


@triton.jit
def _kept(key_1, key_2, first_pair, threshold, HALF: tl.constexpr):
    pair = (first_pair + tl.arange(0, HALF)).to(tl.uint32)
    h = key_1[:, None] + (pair * _FEATURE)[None, :]
    h = (h ^ (h >> 16)) * _MIX_1
    h = h ^ key_2[:, None]
    h = (h ^ (h >> 13)) * _MIX_2
    h = h ^ (h >> 16)
    bits = tl.interleave(h & 0xFFFF, h >> 16)
    return bits >= threshold.to(tl.uint32)


@triton.jit(do_not_specialize=["salt_1", "salt_2"])
def _down(
    x,
    factor,
    stride_n,
    stride_r,
    stride_k,
    ordinals,
    seeds,
    thresholds,
    low,
    num_tokens,
    num_features,
    rank,
    salt_1,
    salt_2,
    R: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    n = tl.program_id(1)
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    is_token = t < num_tokens
    rows = n.to(tl.int64) * num_tokens + t
    r = tl.arange(0, R)
    key_1, key_2 = _token_keys(ordinals, seeds, n, rows, is_token, salt_1, salt_2)
    threshold = tl.load(thresholds + n)
    total = tl.zeros((BLOCK_T, R), dtype=tl.float32)
    for first in range(0, num_features, BLOCK_K):
        k = first + tl.arange(0, BLOCK_K)
        here = is_token[:, None] & (k < num_features)[None, :]
        own = tl.load(x + rows[:, None] * num_features + k[None, :], mask=here, other=0.0)
        keep = _kept(key_1, key_2, first // 2, threshold, BLOCK_K // 2)
        own = tl.where(keep, own, 0.0).to(own.dtype)
        in_factor = (k < num_features)[:, None] & (r < rank)[None, :]
        at = factor + n.to(tl.int64) * stride_n + k[:, None] * stride_k + r[None, :] * stride_r
        weights = tl.load(at, mask=in_factor, other=0.0)
        total += tl.dot(own, weights, input_precision="ieee")
    where = low + rows[:, None] * rank + r[None, :]
    tl.store(where, total.to(low.dtype.element_ty), mask=is_token[:, None] & (r < rank)[None, :])


@triton.jit(do_not_specialize=["salt_1", "salt_2"])
def _gather(
    x,
    low,
    ordinals,
    seeds,
    thresholds,
    into,
    stride_s,
    stride_n,
    stride_r,
    stride_k,
    num_tokens,
    num_features,
    rank,
    tokens_each,
    salt_1,
    salt_2,
    R: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    block, n, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    first = block * BLOCK_K
    k = first + tl.arange(0, BLOCK_K)
    r = tl.arange(0, R)
    is_feature, is_rank = k < num_features, r < rank
    threshold = tl.load(thresholds + n)
    total = tl.zeros((R, BLOCK_K), dtype=tl.float32)
    begin = split * tokens_each
    for start in range(begin, begin + tokens_each, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        is_token = t < num_tokens
        rows = n.to(tl.int64) * num_tokens + t
        here = is_token[:, None] & is_feature[None, :]
        own = tl.load(x + rows[:, None] * num_features + k[None, :], mask=here, other=0.0)
        at = low + rows[:, None] * rank + r[None, :]
        narrow = tl.load(at, mask=is_token[:, None] & is_rank[None, :], other=0.0)
        key_1, key_2 = _token_keys(ordinals, seeds, n, rows, is_token, salt_1, salt_2)
        keep = _kept(key_1, key_2, first // 2, threshold, BLOCK_K // 2)
        own = tl.where(keep, own, 0.0).to(own.dtype)
        total += tl.dot(tl.trans(narrow), own, input_precision="ieee")
    out = into + split.to(tl.int64) * stride_s + n.to(tl.int64) * stride_n
    out += r[:, None] * stride_r + k[None, :] * stride_k
    tl.store(out, total, mask=is_rank[:, None] & is_feature[None, :])


@triton.jit(do_not_specialize=["salt_1", "salt_2"])
def _spread(
    low,
    factor,
    stride_n,
    stride_r,
    stride_k,
    ordinals,
    seeds,
    thresholds,
    before,
    into,
    num_tokens,
    num_features,
    rank,
    salt_1,
    salt_2,
    R: tl.constexpr,
    DROPS: tl.constexpr,
    ADDS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    n, first = tl.program_id(2), tl.program_id(1) * BLOCK_K
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    k = first + tl.arange(0, BLOCK_K)
    r = tl.arange(0, R)
    is_token, is_feature, is_rank = t < num_tokens, k < num_features, r < rank
    rows = n.to(tl.int64) * num_tokens + t
    narrow = tl.load(
        low + rows[:, None] * rank + r[None, :], mask=is_token[:, None] & is_rank[None, :], other=0.0
    )
    at = factor + n.to(tl.int64) * stride_n + r[:, None] * stride_r + k[None, :] * stride_k
    weights = tl.load(at, mask=is_rank[:, None] & is_feature[None, :], other=0.0)
    through = tl.dot(narrow, weights, input_precision="ieee")
    if DROPS:
        key_1, key_2 = _token_keys(ordinals, seeds, n, rows, is_token, salt_1, salt_2)
        keep = _kept(key_1, key_2, first // 2, tl.load(thresholds + n), BLOCK_K // 2)
        through = tl.where(keep, through, 0.0)
    here = is_token[:, None] & is_feature[None, :]
    places = rows[:, None] * num_features + k[None, :]
    if ADDS:
        through += tl.load(before + places, mask=here, other=0.0).to(tl.float32)
    tl.store(into + places, through.to(into.dtype.element_ty), mask=here)


def down(x: Tensor, factor: Tensor, dropout: HashedDropout) -> Tensor:
    """Compute dropout(x) Fᵀ, as documented in `products.down`."""
    num, num_tokens, num_features = x.shape
    rank = factor.shape[1]
    low = torch.empty(num, num_tokens, rank, dtype=x.dtype, device=x.device)
    block_t, block_k = (32, 128) if num * num_tokens > LARGE or x.element_size() > 2 else (16, 256)
    _down[(triton.cdiv(num_tokens, block_t), num)](
        x,
        factor,
        *factor.stride(),
        dropout.ordinals,
        dropout.seeds,
        dropout.thresholds,
        low,
        num_tokens,
        num_features,
        rank,
        *dropout.salt,
        R=_padded(rank),
        BLOCK_T=block_t,
        BLOCK_K=block_k,
        num_warps=4,
    )
    return low


def gather(x: Tensor, low: Tensor, into: Tensor, dropout: HashedDropout) -> None:
    """Write lowᵀ dropout(x) to `into`, as documented in `products.gather`."""
    num, num_tokens, num_features = x.shape
    rank = low.shape[-1]
    block_t, block_k = (32, 64) if num * num_tokens > LARGE else (64, 32)
    programs = num * triton.cdiv(num_features, block_k)
    # A sum over many tokens is split to occupy the whole chip; the parts are added in a fixed order.
    num_splits = max(1, min(num_tokens // 512, PROGRAMS // programs))
    tokens_each = triton.cdiv(triton.cdiv(num_tokens, num_splits), block_t) * block_t
    num_splits = triton.cdiv(num_tokens, tokens_each)
    out = into[None]
    if num_splits > 1:
        out = torch.empty((num_splits, *into.shape), dtype=torch.float32, device=x.device)
    _gather[(triton.cdiv(num_features, block_k), num, num_splits)](
        x,
        low,
        dropout.ordinals,
        dropout.seeds,
        dropout.thresholds,
        out,
        *out.stride(),
        num_tokens,
        num_features,
        rank,
        tokens_each,
        *dropout.salt,
        R=_padded(rank),
        BLOCK_T=block_t,
        BLOCK_K=block_k,
        num_warps=4,
    )
    if num_splits > 1:
        torch.sum(out, 0, out=into)


def spread(
    low: Tensor, factor: Tensor, into: Tensor, dropout: HashedDropout | None, before: Tensor | None
) -> None:
    """Write before + dropout(low F) to `into`, as documented in `products.spread`."""
    num, num_tokens, num_features = into.shape
    rank = low.shape[-1]
    block_t, block_k = (64, 128) if num * num_tokens > LARGE else (32, 64)
    _spread[(triton.cdiv(num_tokens, block_t), triton.cdiv(num_features, block_k), num)](
        low,
        factor,
        *factor.stride(),
        dropout.ordinals if dropout is not None else low,
        dropout.seeds if dropout is not None else low,
        dropout.thresholds if dropout is not None else low,
        before if before is not None else into,
        into,
        num_tokens,
        num_features,
        rank,
        *(dropout.salt if dropout is not None else (0, 0)),
        R=_padded(rank),
        DROPS=dropout is not None,
        ADDS=before is not None,
        BLOCK_T=block_t,
        BLOCK_K=block_k,
        num_warps=4,
    )


def _padded(rank: int) -> int:
    """Round a rank up to a power of two of at least 16, as tensor cores require."""
    return max(16, int(triton.next_power_of_2(rank)))

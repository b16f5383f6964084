"""Attention for training passes on a CPU, where torch's fused attention has a slow backward pass.

Five rows of 52 tokens in bfloat16, six heads of 64, one thread: torch's `scaled_dot_product_attention` takes
0.8 ms forward and 7.4 ms backward, ten times what its matrix products take. Here scores are computed in
float32 by plain products, and again in the backward pass, so no more is kept than by the fused kernel. The
library that computes float32 products does not compile a kernel for each new length, as oneDNN does for
bfloat16.

It is also more exact. T5 does not scale its scores down, so they reach 586 in the starter, and torch's kernel
keeps the logarithm of a row's sum in float32. Near 586, float32 is exact to 3e-5, and so is the kernel's
backward pass. So another order of the same examples (packed differently, or divided among processes) changed
the gradient by 1e-5 of its norm; here the change is 2e-7 to 4e-7 (`benchmarks/orders.py`). Therefore this
attention is used in float32 too, where rows of 64 tokens take a quarter longer than in torch's kernel, and a
step of the starter took 1 to 3 % longer in a single trial.

Passes without gradients, and rows of about 2,900 tokens and more, use torch's attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "loraloom_rows"
LARGEST = 2**23  # scores that are computed at once; three float32 tensors of this size exist at a time

# A mask -> the position bias that was added to it, and the sum of both; all layers of a stack share them.
_SUMS: Any = WeakTensorKeyDictionary()


def use_row_attention(model: PreTrainedModel) -> None:
    """Use this attention in the training passes of a model, if it is on a CPU and its attention is SDPA."""
    # transformers 5.17 sets this only in the model, not in its two stacks, which have separate configs.
    stacks = [model, model.get_encoder(), model.get_decoder()]
    names = {stack.config._attn_implementation for stack in stacks}
    if model.device.type == "cpu" and names == {"sdpa"}:
        for stack in stacks:
            stack.set_attn_implementation(NAME)


class _RowAttention(torch.autograd.Function):
    """softmax(s q kᵀ + bias) v, computed in float32 over [rows · heads, len, size]."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scaling: float) -> Tensor:
        ctx.save_for_backward(query, key, value, bias)
        ctx.scaling = scaling
        q, k, v = (_flat(x) for x in (query, key, value))
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        for block in _blocks(bias):
            torch.bmm(_weights(q[block], k[block], bias[block], scaling), v[block], out=out[block])
        return _like(out, query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias = ctx.saved_tensors
        q, k, v, into_out = (_flat(x) for x in (query, key, value, upstream))
        into_q, into_k, into_v = (torch.empty_like(x) for x in (q, k, v))
        for block in _blocks(bias):
            weights = _weights(q[block], k[block], bias[block], ctx.scaling)
            torch.bmm(weights.mT, into_out[block], out=into_v[block])
            into_scores = into_out[block] @ v[block].mT
            torch._softmax_backward_data(into_scores, weights, -1, torch.float32, grad_input=into_scores)
            into_scores = into_scores.mul_(ctx.scaling) if ctx.scaling != 1.0 else into_scores
            torch.bmm(into_scores, k[block], out=into_q[block])
            torch.bmm(into_scores.mT, q[block], out=into_k[block])
        return _like(into_q, query), _like(into_k, key), _like(into_v, value), None, None


def _blocks(bias: Tensor) -> Iterator[slice]:
    """Yield slices of the first dimension, [rows · heads]; the scores of a slice are computed at once."""
    each = max(1, LARGEST // bias.shape[1:].numel())
    yield from (slice(start, start + each) for start in range(0, len(bias), each))


def _weights(q: Tensor, k: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """Compute the attention weights for all keys, [rows · heads, queries, keys]."""
    scores = torch.baddbmm(bias, q, k.mT, alpha=scaling)
    return torch.softmax(scores, -1, out=scores)


def _flat(x: Tensor) -> Tensor:
    """Flatten [rows, heads, len, size] → float32 [rows · heads, len, size], contiguous."""
    return torch.empty(x.shape, dtype=torch.float32, device=x.device).copy_(x).flatten(0, 1)


def _like(flat: Tensor, x: Tensor) -> Tensor:
    """Undo `_flat`: return [rows, heads, len, size] in the dtype of x, stored as [rows, len, heads, size]."""
    rows, heads, length = x.shape[:3]
    own = x.new_empty(rows, length, heads, flat.shape[-1]).transpose(1, 2)
    return own.copy_(flat.unflatten(0, (rows, heads)))


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Compute attention, with the arguments and the result of transformers' SDPA function."""
    if not _is_ours(query, key, value, attention_mask, position_bias, dropout, options):
        given = options if position_bias is None else options | {"position_bias": position_bias}
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
        )
    assert attention_mask is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    shape = torch.Size((*query.shape[:3], key.shape[2]))
    bias = _sum(attention_mask, position_bias, shape, query.dtype)
    own = _RowAttention.apply(query, key, value, bias, scale)  # type: ignore[no-untyped-call]
    return own.transpose(1, 2), None


def _is_ours(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    dropout: float,
    options: dict[str, Any],
) -> bool:
    has_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    is_frozen = position_bias is None or not position_bias.requires_grad
    is_usual = mask is not None and mask.dim() == 4 and not dropout and query.shape[1] == key.shape[1]
    is_short = query.shape[2] * key.shape[2] <= LARGEST
    is_plain = options.get("softcap") is None and options.get("cache") is None
    return has_gradient and is_frozen and is_usual and is_short and is_plain and query.device.type == "cpu"


def _sum(mask: Tensor, position_bias: Tensor | None, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return the sum of mask and position bias in the given shape, float32 [rows · heads, queries, keys]."""
    found = _SUMS.get(mask)
    if found is not None and found[0]() is position_bias and found[1] == shape:
        return found[2]  # type: ignore[no-any-return]
    if mask.dtype == torch.bool:
        lowest = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(dtype).min)
    else:
        lowest = mask.detach().float()  # a view of the mask itself would keep its own key alive
    total = lowest if position_bias is None else lowest + position_bias.float()
    total = total.expand(shape).flatten(0, 1)
    _SUMS[mask] = (lambda: None) if position_bias is None else ref(position_bias), shape, total
    return total


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)

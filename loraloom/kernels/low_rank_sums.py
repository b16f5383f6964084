"""y + s · B A dropout(x) for several adapters, each in rows of its own, as one node of autograd.

For g = ∂loss/∂y, s the scaling and m the dropout mask,

    ∂B = s · gᵀ (A (m x))      ∂A = s · (g B)ᵀ (m x)      ∂x = m · (s · g B A)

The node keeps x, which q, k and v share, a mask of one byte per element, and A (m x), which is narrow.
Autograd alone would keep m x for each linear, and use some twenty nodes instead of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Group:
    """Consecutive rows of a batch, in equal shares of adapters that one batched product computes.

    Args:
        start, stop: first row, and the row after the last.
        A: [adapters, r, in], in the dtype of the products; smaller ranks are padded with zeros.
        B: [adapters, out, r], in the same way.
        parameters: A [r, in] and B [out, r] of each adapter in turn, which receive the gradients.
        scaling: of all adapters, or of each, [adapters, 1, 1]; with a mask, 1 / (1 - p) is part of it.
        kept: which inputs are not dropped, bool [rows, len, in]; None if nothing is.
    """

    start: int
    stop: int
    A: Tensor
    B: Tensor
    parameters: tuple[nn.Parameter, ...]
    scaling: float | Tensor
    kept: Tensor | None = None

    def share(self, x: Tensor) -> Tensor:
        """Return its rows of x, [adapters, tokens of each, features], in the dtype of the products."""
        return x[self.start : self.stop].reshape(len(self.A), -1, x.shape[-1]).to(self.A.dtype)

    def drop(self, x: Tensor) -> Tensor:
        """Set dropped inputs to 0, [adapters, tokens, in] → the same."""
        return x if (mask := self.mask(x)) is None else x * mask

    def mask(self, x: Tensor) -> Tensor | None:
        """Return 0 for inputs that are dropped and 1 for others, in shape and dtype of its rows `x`."""
        # By way of bytes, because on a CPU a product with bool takes thirty times as long.
        return None if self.kept is None else self.kept.view(torch.uint8).to(x.dtype).view_as(x)

    def add_to(self, x: Tensor, out: Tensor) -> Tensor:
        """Add s · B A dropout(x) to its rows of `out`, which is contiguous; return A dropout(x)."""
        low = torch.bmm(self.drop(self.share(x)), self.A.mT)
        own = out[self.start : self.stop].view(len(self.A), -1, out.shape[-1])
        if low.dtype == out.dtype:
            own.baddbmm_(low * self.scaling, self.B.mT)
        else:
            own.copy_(own.to(low.dtype).baddbmm_(low * self.scaling, self.B.mT))
        return low


def add_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """Add what adapters contribute to a linear's output, in the rows that are theirs.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out]; not modified.
        groups: of disjoint rows; other rows are unchanged.
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    return _AddLowRanks.apply(x, y, groups, *parameters)  # type: ignore[no-any-return, no-untyped-call]


def plain_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """Compute what `add_low_ranks` computes, adapter by adapter and by autograd: its oracle."""
    out = y.clone()
    for group in groups:
        kept = torch.ones_like(x[group.start : group.stop]) if group.kept is None else group.kept
        shares = (x[group.start : group.stop] * kept).chunk(len(group.A))
        scalings = torch.as_tensor(group.scaling, dtype=x.dtype).flatten().expand(len(group.A))
        pairs = zip(group.parameters[::2], group.parameters[1::2], strict=True)
        added = [s * share @ A.T @ B.T for s, share, (A, B) in zip(scalings, shares, pairs, strict=True)]
        out[group.start : group.stop] += torch.cat(added)
    return out


class _AddLowRanks(torch.autograd.Function):
    """y + s · B A dropout(x) in the rows of each group; see the top of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, groups: Sequence[Group], *parameters: Tensor) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        lows = [group.add_to(x, out) for group in groups]
        # Masks are saved as tensors too, so that activation checkpointing can free them; parameters are
        # saved because it must be an error if they change before the backward pass.
        ctx.groups = [replace(group, kept=None) for group in groups]
        ctx.save_for_backward(x, *lows, *(group.kept for group in groups), *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        num = len(ctx.groups)
        lows, masks = saved[:num], saved[num : 2 * num]
        into_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        into_parameters: list[Tensor] = []
        for unmasked, low, kept in zip(ctx.groups, lows, masks, strict=True):
            group = replace(unmasked, kept=kept)
            own, upstream_own = group.share(x), group.share(upstream)
            mask = group.mask(own)
            upstream_low = torch.bmm(upstream_own, group.B).mul_(group.scaling)
            into_A = torch.bmm(upstream_low.mT, own if mask is None else own * mask)
            into_B = torch.bmm((low * group.scaling).mT, upstream_own).mT
            into_parameters += _by_parameter(group, into_A, into_B)
            if into_x is not None:
                through = torch.bmm(upstream_low, group.A)
                if mask is not None:
                    through *= mask
                into_x[group.start : group.stop] = through.view_as(into_x[group.start : group.stop])
        return into_x, upstream, None, *into_parameters


def _by_parameter(group: Group, gradient_of_a: Tensor, gradient_of_b: Tensor) -> list[Tensor]:
    """Split the gradients of stacked A and B into those of each adapter, without padding."""
    dtype = group.parameters[0].dtype
    into_A, into_B = gradient_of_a.to(dtype), gradient_of_b.to(dtype)
    found = []
    for number, A in enumerate(group.parameters[::2]):
        r = A.shape[0]
        found += [into_A[number, :r], into_B[number, :, :r]]
    return found

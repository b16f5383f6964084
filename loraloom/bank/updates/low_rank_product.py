"""y + s · B A dropout(x) in the rows of several adapters, as one node of autograd; and plainly, its oracle.

For g = ∂loss/∂y, s the scaling and m the dropout mask of an adapter's rows,

    ∂B = s · gᵀ (A (m x))      ∂A = s · (g B)ᵀ (m x)      ∂x = m · (s · g B A)

The node keeps x, which q, k and v have in common, a byte of mask an element, and A (m x), which is
narrow; autograd alone would keep m x of each linear, and take some twenty nodes where this takes one.
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
    """Consecutive rows of a batch, shared equally by adapters that one batched product serves.

    Args:
        start, stop: the first row, and the row after the last.
        A: [adapters, r, in], in the dtype of the linear's input; smaller ranks are padded with zeros.
        B: [adapters, out, r], likewise.
        parameters: A [r, in] and B [out, r] of each adapter in turn, which get the gradients.
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
        """Its rows, [adapters, tokens of each, features]."""
        return x[self.start : self.stop].reshape(len(self.A), -1, x.shape[-1])

    def drop(self, x: Tensor) -> Tensor:
        """[adapters, tokens, in] → the same, 0 where it is dropped."""
        if self.kept is None:
            return x
        # As bytes: on a CPU a product with bool takes thirty times as long.
        return x * self.kept.view(torch.uint8).to(x.dtype).view_as(x)


class _AddLowRanks(torch.autograd.Function):
    """y + s · B A dropout(x) in the rows of each group; see the head of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, groups: Sequence[Group], *parameters: Tensor) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        lows = []
        for group in groups:
            low = torch.bmm(group.drop(group.share(x)), group.A.mT)
            own = out[group.start : group.stop].view(len(group.A), -1, y.shape[-1])
            if isinstance(group.scaling, Tensor):
                own.baddbmm_(low * group.scaling, group.B.mT)
            else:
                own.baddbmm_(low, group.B.mT, alpha=group.scaling)
            lows.append(low)
        # Masks too are saved as tensors, so that activation checkpointing can let them go; parameters,
        # because a change of theirs before the backward pass must be an error.
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
            upstream_low = torch.bmm(upstream_own, group.B).mul_(group.scaling)
            into_A = torch.bmm(upstream_low.mT, group.drop(own))
            into_B = torch.bmm((low * group.scaling).mT, upstream_own).mT
            into_parameters += _by_parameter(group, into_A, into_B)
            if into_x is not None:
                through = group.drop(torch.bmm(upstream_low, group.A))
                into_x[group.start : group.stop] = through.view_as(into_x[group.start : group.stop])
        return into_x, upstream, None, *into_parameters


def _by_parameter(group: Group, gradient_of_a: Tensor, gradient_of_b: Tensor) -> list[Tensor]:
    """Gradients of stacked A and B as those of A and B of each adapter, without their padding."""
    dtype = group.parameters[0].dtype
    into_A, into_B = gradient_of_a.to(dtype), gradient_of_b.to(dtype)
    found = []
    for number, A in enumerate(group.parameters[::2]):
        r = A.shape[0]
        found += [into_A[number, :r], into_B[number, :, :r]]
    return found


def add_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """What adapters add to a linear's output, in the rows that are theirs.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out].
        groups: of disjoint rows; the other rows stay as they are.
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    return _AddLowRanks.apply(x, y, groups, *parameters)  # type: ignore[no-any-return, no-untyped-call]


def add_low_ranks_plainly(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """The same by the formula, adapter by adapter, from its own parameters: the oracle of the tests."""
    out = y.clone()
    for group in groups:
        num = len(group.A)
        scalings = torch.as_tensor(group.scaling, dtype=x.dtype).flatten().expand(num)
        seen = x[group.start : group.stop]
        if group.kept is not None:
            seen = seen * group.kept
        each = len(seen) // num
        for number, (A, B) in enumerate(zip(group.parameters[::2], group.parameters[1::2], strict=True)):
            own = seen[number * each : (number + 1) * each]
            start = group.start + number * each
            out[start : start + each] += scalings[number] * own @ A.T.to(x.dtype) @ B.T.to(x.dtype)
    return out

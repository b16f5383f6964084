"""Low-rank products whose A is frozen: y + s · B A dropout(x), without keeping x for the backward pass.

With d = dropout(x) and g = ∂loss/∂output, ∂B = s · gᵀ (A d) needs only A d, which is r wide, and ∂x needs
only the mask. So autograd keeps r numbers and the mask for each token, instead of `in` numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.kernels.low_rank_sums import Group, product


def add_with_frozen_down(x: Tensor, y: Tensor, groups: Sequence[Group], *, is_up_trained: bool) -> Tensor:
    """Add what adapters contribute to a linear's output, each in its own rows.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out]; not modified.
        groups: groups with disjoint spans; other rows are unchanged.
        is_up_trained: whether B gets a gradient.
    """
    ups = [B for group in groups for B in group.parameters[1::2]] if is_up_trained else []
    return _AddWithFrozenDown.apply(x, y, groups, *ups)  # type: ignore[no-any-return, no-untyped-call]


class _AddWithFrozenDown(torch.autograd.Function):
    """y + s · B A dropout(x) in the rows of each group; see the top of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, groups: Sequence[Group], *ups: Tensor) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        lows = [group.add_to(x, out) for group in groups]
        ctx.groups = [replace(group, kept=None) for group in groups]
        ctx.num_ups, ctx.shape = len(ups), x.shape
        # Parameters are saved because it must be an error if they change before the backward pass.
        masks = [group.kept if ctx.needs_input_grad[0] else None for group in groups]
        ctx.save_for_backward(*(lows if ups else [None] * len(lows)), *masks, *ups)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        num, saved = len(ctx.groups), ctx.saved_tensors
        into_x = upstream.new_zeros(ctx.shape) if ctx.needs_input_grad[0] else None
        into_ups: list[Tensor] = []
        for unmasked, low, kept in zip(ctx.groups, saved[:num], saved[num : 2 * num], strict=True):
            group = replace(unmasked, kept=kept)
            own = group.rows_of(upstream)
            if ctx.num_ups:
                into_ups += _of_each(group, product(low.mT, own).mT)
            if into_x is not None:
                through = group.drop(product(product(own, group.B).mul_(group.scaling), group.A))
                into_x[group.start : group.stop] = through.view_as(into_x[group.start : group.stop])
        return into_x, upstream, None, *into_ups


def _of_each(group: Group, gradient: Tensor) -> list[Tensor]:
    """Split the gradient of the stacked B into each adapter's gradient, without padding."""
    ups = group.parameters[1::2]
    if gradient.dim() == 2:
        return [gradient.to(ups[0].dtype)]
    return [gradient[number, :, : B.shape[1]].to(B.dtype) for number, B in enumerate(ups)]

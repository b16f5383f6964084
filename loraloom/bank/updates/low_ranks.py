"""What LoRA adapters add to a linear's output, y + s · B A dropout(x), as one node of autograd.

For g = ∂loss/∂y, s the scaling and m the dropout mask,

    ∂B = s · gᵀ (A (m x))      ∂A = s · (g B)ᵀ (m x)      ∂x = m · (s · g B A)

The node keeps x, which q, k and v share, a mask of one byte per element, and A (m x), which is narrow.
Autograd alone would keep m x for each linear, and use some twenty nodes instead of one.

On a processor the products are in float32, of the parameters themselves, also if the base is in half
precision. A product in bfloat16 takes oneDNN 0.04 ms at a shape that it has seen and 0.5 to 1 ms at a new
one, and nearly every batch brings new lengths; in float32 it takes 0.06 ms at any shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype in which adapters of a linear of some dtype are computed."""
    return torch.float32 if device.type == "cpu" and dtype in (torch.bfloat16, torch.float16) else dtype


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

    def inputs(self, x: Tensor) -> Tensor:
        """Return `share` of x with dropped inputs set to 0."""
        if self.kept is None:
            return self.share(x)
        return (
            dropped(x[self.start : self.stop], self.kept).view(len(self.A), -1, x.shape[-1]).to(self.A.dtype)
        )


def dropped(x: Tensor, kept: Tensor) -> Tensor:
    """Set what is not kept to 0; both [rows, len, in].

    Not by a product with bool, nor by `where`, which take thirty times as long on a CPU. Halves are
    multiplied as the whole numbers of their bits.
    """
    ones = kept.view(torch.uint8)
    if x.is_cuda or x.element_size() != 2:
        return x * ones.to(x.dtype)
    return (x.contiguous().view(torch.int16) * ones.to(torch.int16)).view(x.dtype)


class _AddLowRanks(torch.autograd.Function):
    """y + s · B A dropout(x) in the rows of each group; see the top of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, groups: Sequence[Group], *parameters: Tensor) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        lows = []
        for group in groups:
            low = _product(group.inputs(x), group.A.mT)
            own = out[group.start : group.stop].view(len(group.A), -1, y.shape[-1])
            if low.dtype != y.dtype:
                own.add_(_product(low * group.scaling, group.B.mT).to(y.dtype))
            elif isinstance(group.scaling, Tensor):
                own.baddbmm_(low * group.scaling, group.B.mT)
            else:
                own.baddbmm_(low, group.B.mT, alpha=group.scaling)
            lows.append(low)
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
        into_x: list[tuple[Group, Tensor]] = []
        into_parameters: list[Tensor] = []
        for unmasked, low, kept in zip(ctx.groups, lows, masks, strict=True):
            group = replace(unmasked, kept=kept)
            upstream_own = group.share(upstream)
            upstream_low = _product(upstream_own, group.B).mul_(group.scaling)
            into_A = _product(upstream_low.mT, group.inputs(x))
            into_B = _product((low * group.scaling).mT, upstream_own).mT
            into_parameters += _by_parameter(group, into_A, into_B)
            if ctx.needs_input_grad[0]:
                through = _product(upstream_low, group.A).to(x.dtype).view(-1, *x.shape[1:])
                into_x.append((group, through if kept is None else dropped(through, kept)))
        return _in_rows(x, into_x) if into_x else None, upstream, None, *into_parameters


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of each adapter's matrices; of a single adapter, without the cost of a batch."""
    return torch.mm(a[0], b[0])[None] if len(a) == 1 else torch.bmm(a, b)


def _in_rows(x: Tensor, parts: Sequence[tuple[Group, Tensor]]) -> Tensor:
    """Put the gradients of groups in their rows of a tensor like x, which is 0 elsewhere."""
    if len(parts) == 1 and len(parts[0][1]) == len(x):
        return parts[0][1]
    found = torch.zeros_like(x)
    for group, part in parts:
        found[group.start : group.stop] = part
    return found


def _by_parameter(group: Group, gradient_of_a: Tensor, gradient_of_b: Tensor) -> list[Tensor]:
    """Split the gradients of stacked A and B into those of each adapter, without padding."""
    dtype = group.parameters[0].dtype
    into_A, into_B = gradient_of_a.to(dtype), gradient_of_b.to(dtype)
    found = []
    for number, A in enumerate(group.parameters[::2]):
        r = A.shape[0]
        found += [into_A[number, :r], into_B[number, :, :r]]
    return found


def add_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """Add what adapters contribute to a linear's output, in the rows that are theirs.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out]; not modified.
        groups: of disjoint rows; other rows are unchanged.
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    return _AddLowRanks.apply(x, y, groups, *parameters)  # type: ignore[no-any-return, no-untyped-call]

"""y + s · B A dropout(x) for several adapters, each in its own span, as one autograd node.

Unless y is given, the node also computes y = W x + b, so that y is not copied and ∂x is a single sum.

For g = ∂loss/∂y, s the scaling and m the dropout mask,

    ∂B = s · gᵀ (m x) Aᵀ      ∂A = s · (g B)ᵀ (m x)      ∂x = m · (s · g B A)

The node keeps x (which q, k and v share), a mask of one byte per element, and s · (m x) Aᵀ, only r wide.
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
    """Adapters that one batched product computes; their spans are adjacent and equal in size.

    Args:
        start, stop: the first row of the spans, and the row after the last.
        A: [adapters, r, in], in the dtype of the products; smaller ranks are padded with zeros. [r, in] if
            all rows belong to one adapter, because plain products take less time than batched ones.
        B: [adapters, out, r], or [out, r] for one adapter; dtype and padding as for A.
        parameters: A [r, in] and B [out, r] of each adapter in turn, which receive the gradients.
        scaling: one number for all adapters, or [adapters, 1, 1]; with a mask, it includes 1 / (1 - p).
        kept: which inputs are not dropped, bool [rows, len, in]; None if none is dropped.
    """

    start: int
    stop: int
    A: Tensor
    B: Tensor
    parameters: tuple[nn.Parameter, ...]
    scaling: float | Tensor
    kept: Tensor | None = None

    def rows_of(self, x: Tensor) -> Tensor:
        """Return the group's rows of x in the products' dtype, [adapters, tokens per adapter, features]."""
        return self._own(x).to(self.A.dtype)

    def _own(self, x: Tensor) -> Tensor:
        return x[self.start : self.stop].reshape(*self.A.shape[:-2], -1, x.shape[-1])

    def drop(self, x: Tensor) -> Tensor:
        """Set dropped inputs to 0; input and result are [adapters, tokens, in]."""
        return x if self.kept is None else x * _mask(self.kept, x)

    def add_to(self, x: Tensor, out: Tensor) -> Tensor:
        """Add s · B A dropout(x) to the group's rows of `out`, contiguous; return s · A dropout(x)."""
        low = product(self.drop(self.rows_of(x)), self.A.mT).mul_(self.scaling)
        own = self._own(out)
        total = own.to(low.dtype)  # `own` itself, if it has this dtype
        _ = total.addmm_(low, self.B.mT) if low.dim() == 2 else total.baddbmm_(low, self.B.mT)
        if total is not own:
            own.copy_(total)
        return low


def product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply two matrices, or two batches of the same number of matrices."""
    return torch.mm(left, right) if left.dim() == 2 else torch.bmm(left, right)


def _mask(kept: Tensor, x: Tensor) -> Tensor:
    """Return 0 for inputs that are dropped and 1 for others, in the shape and dtype of a group's rows `x`."""
    # By way of bytes, because on a CPU a product with bool takes thirty times as long.
    return kept.view(torch.uint8).to(x.dtype).view_as(x)


def add_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """Add the contribution of each adapter to its own rows of a linear's output.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out]; not modified.
        groups: groups with disjoint spans; other rows are unchanged.
    """
    return _apply_node(x, y, None, None, groups)


def linear_with_low_ranks(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Sequence[Group]) -> Tensor:
    """Compute a frozen linear, and add the contribution of each adapter to its own rows.

    Args:
        x, groups: as in `add_low_ranks`.
        weight: [out, in], frozen.
        bias: [out], frozen; or None.

    Returns:
        [rows, len, out].
    """
    return _apply_node(x, None, weight, bias, groups)


def _apply_node(
    x: Tensor, y: Tensor | None, weight: Tensor | None, bias: Tensor | None, groups: Sequence[Group]
) -> Tensor:
    parameters = [parameter for group in groups for parameter in group.parameters]
    return _AddLowRanks.apply(x, y, weight, bias, groups, *parameters)  # type: ignore[no-any-return, no-untyped-call]


def plain_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """Compute the same as `add_low_ranks`, adapter by adapter and by autograd: the test oracle."""
    out = y.clone()
    for group in groups:
        kept = torch.ones_like(x[group.start : group.stop]) if group.kept is None else group.kept
        pairs = list(zip(group.parameters[::2], group.parameters[1::2], strict=True))
        inputs = (x[group.start : group.stop] * kept).chunk(len(pairs))
        scalings = torch.as_tensor(group.scaling, dtype=x.dtype).flatten().expand(len(pairs))
        added = [s * own @ A.T @ B.T for s, own, (A, B) in zip(scalings, inputs, pairs, strict=True)]
        out[group.start : group.stop] += torch.cat(added)
    return out


class _AddLowRanks(torch.autograd.Function):
    """y + s · B A dropout(x) in the rows of each group; see the top of this file."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: Sequence[Group],
        *parameters: Tensor,
    ) -> Tensor:
        if y is not None:
            out = y.clone(memory_format=torch.contiguous_format)
        else:
            assert weight is not None
            # Into a tensor that is not a view, so that autograd allows adding an adapter's bias in place.
            out = x.new_empty(*x.shape[:-1], len(weight))
            rows, into = x.reshape(-1, x.shape[-1]), out.view(-1, len(weight))
            if bias is None:
                torch.mm(rows, weight.t(), out=into)
            else:
                torch.addmm(bias, rows, weight.t(), out=into)
        lows = [group.add_to(x, out) for group in groups]
        # Masks are saved as tensors too, so that activation checkpointing can free them; parameters are
        # saved because it must be an error if they change before the backward pass.
        ctx.groups = [replace(group, kept=None) for group in groups]
        ctx.has_output = y is not None
        ctx.save_for_backward(x, weight, *lows, *(group.kept for group in groups), *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        num = len(ctx.groups)
        lows, masks = saved[:num], saved[num : 2 * num]
        into_x = _gradient_like(x, ctx.groups) if ctx.needs_input_grad[0] else None
        into_parameters: list[Tensor] = []
        for group, low, kept in zip(ctx.groups, lows, masks, strict=True):
            own, upstream_own = group.rows_of(x), group.rows_of(upstream)
            mask = None if kept is None else _mask(kept, own)
            upstream_low = product(upstream_own, group.B).mul_(group.scaling)
            into_A = product(upstream_low.mT, own if mask is None else own * mask)
            into_B = product(low.mT, upstream_own).mT
            into_parameters += _by_parameter(group, into_A, into_B)
            if into_x is not None:
                through = product(upstream_low, group.A)
                if mask is not None:
                    through *= mask
                into_x[group.start : group.stop] = through.view_as(into_x[group.start : group.stop])
        if into_x is not None and weight is not None:
            into_x.view(-1, x.shape[-1]).addmm_(upstream.reshape(-1, upstream.shape[-1]), weight)
        return into_x, upstream if ctx.has_output else None, None, None, None, *into_parameters


def _gradient_like(x: Tensor, groups: Sequence[Group]) -> Tensor:
    """Allocate the gradient of x, with zeros in rows that belong to no group; others are filled in later."""
    is_full = sum(group.stop - group.start for group in groups) == len(x)
    make = torch.empty if is_full else torch.zeros
    return make(x.shape, dtype=x.dtype, device=x.device)


def _by_parameter(group: Group, gradient_of_a: Tensor, gradient_of_b: Tensor) -> list[Tensor]:
    """Split the gradients of stacked A and B into those of each adapter, without padding."""
    dtype = group.parameters[0].dtype
    into_A, into_B = gradient_of_a.to(dtype), gradient_of_b.to(dtype)
    if into_A.dim() == 2:
        return [into_A, into_B]
    found = []
    for number, A in enumerate(group.parameters[::2]):
        r = A.shape[0]
        found += [into_A[number, :r], into_B[number, :, :r]]
    return found

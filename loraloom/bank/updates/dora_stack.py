"""DoRA in a pass: for the rows of each adapter, f (W x + s B A x) + b with f = m / ‖W + s B A‖.

With dropout, PEFT uses the input after dropout, d, in the product with W as well:

    y + f z - W d    with    z = W d + s B A d

where y is the frozen linear's output. Without dropout, d is x, and W x is y - b, so the product with W is not
computed again. One autograd node computes all adapters of a linear; for g = ∂loss/∂output, its gradients are

    ∂m = Σ g z / ‖W + s B A‖    ∂B = s (f g)ᵀ (A d)    ∂A = s (f g B)ᵀ d    ∂y = f g, or g with dropout

The norms are computed once per pass, and reused by the next pass if the adapter's weights have not changed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraloom.bank.updates.dora_part import DoraPart
from loraloom.bank.updates.update import Copies, Draw, Span
from loraloom.base.frozen_linear import FrozenLinear


@dataclass(frozen=True)
class _Weights:
    """An adapter's weights in the form that a pass uses.

    Args:
        A, B: the adapter's A and B, in the dtype of the products.
        norms: norms of the rows of W + s B A, float32 [out].
        factors: m / norms.
    """

    A: Tensor
    B: Tensor
    norms: Tensor
    factors: Tensor


@dataclass(frozen=True)
class _DoraSpan:
    """A span of a pass, and the adapter that it belongs to.

    Args:
        start, stop: first row, and the row after the last.
        update: what the adapter adds to the linear.
        weights: the adapter's weights.
        linear: the frozen linear.
        kept: which inputs are not dropped, bool [rows, len, in]; None if no input is dropped.
    """

    start: int
    stop: int
    update: DoraPart
    weights: _Weights
    linear: FrozenLinear
    kept: Tensor | None = None

    @property
    def scaling(self) -> float:
        """The adapter's scaling of B A, times `input_scaling`."""
        return self.update.scaling * self.input_scaling

    @property
    def input_scaling(self) -> float:
        """The factor 1 / (1 - p) of dropout, kept apart so that masks can be 0 or 1; 1 without dropout."""
        return 1 if self.kept is None else 1 / (1 - self.update.dropout)

    def own(self, x: Tensor) -> Tensor:
        """Return the span's rows of x, [tokens, features]."""
        return x[self.start : self.stop].reshape(-1, x.shape[-1])

    def drop(self, x: Tensor) -> Tensor:
        """Set dropped inputs to 0, [tokens, in] → the same shape."""
        return x if self.kept is None else x * self.kept.view(torch.uint8).to(x.dtype).view_as(x)

    def base_product(self, dropped: Tensor) -> Tensor:
        """Compute W d, in the dtype of the base, as the frozen linear does."""
        weight = self.linear.dense()
        return (dropped.to(weight.dtype) @ weight.T).to(dropped.dtype) * self.input_scaling

    def compute(self, x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the output in the span's rows.

        Args:
            x, y: input and output of the frozen linear.
            out: the tensor whose rows are overwritten, contiguous; may be y.

        Returns:
            A times the masked input, [tokens, r], and z as at the top of this file, [tokens, out].
        """
        dtype, bias = self.weights.A.dtype, self.linear.bias
        dropped = self.drop(self.own(x).to(dtype))
        low = dropped @ self.weights.A.T
        plain = self.own(y).to(dtype)
        if self.kept is not None:
            base = self.base_product(dropped)
        else:
            base = plain if bias is None else plain - bias.to(dtype)
        z = torch.addmm(base, low, self.weights.B.T, alpha=self.scaling)
        made = z * self.weights.factors.to(dtype)
        if self.kept is not None:
            made += plain - base
        elif bias is not None:
            made += bias.to(dtype)
        place = out[self.start : self.stop]
        place.copy_(made.view_as(place))
        return low, z


class DoraStack:
    """The DoRA adapters of one linear; `Stack` documents each method.

    Args:
        updates: the adapters' parts by slot, in the order of attachment.
        dtype: dtype of the products, from `product_dtype`.
    """

    def __init__(self, updates: Mapping[str, DoraPart], dtype: torch.dtype) -> None:
        self._updates = dict(updates)
        self._dtype = dtype
        self._weights: dict[str, _Weights] = {}
        self._versions: dict[str, list[int]] = {}
        self.signature: Hashable = ("dora", *updates)

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Discard what was computed from weights that may have changed; return two empty lists."""
        for slot in owners:
            if slot not in self._updates:
                continue
            versions = [parameter._version for parameter in self._updates[slot].parameters.values()]
            if not only_if_changed or versions != self._versions.get(slot):
                self._weights.pop(slot, None)
            self._versions[slot] = versions
        return [], []

    def group(self, spans: Sequence[Span]) -> list[Span]:
        """Return the spans of the stack's adapters, each of which is computed separately."""
        return [span for span in spans if span.slot in self._updates]

    def add(
        self, linear: FrozenLinear, x: Tensor, y: Tensor | None, groups: Sequence[Span], draw: Draw | None
    ) -> Tensor:
        """Compute the output of the linear in the rows of each adapter."""
        y = linear.product(x) if y is None else y
        spans = [self._span(linear, x, span, draw) for span in groups]
        if spans and torch.is_grad_enabled():
            parameters = [p for span in spans for p in span.update.parameters.values()]
            return _AddDora.apply(x, y, spans, *parameters)  # type: ignore[no-any-return, no-untyped-call]
        for span in spans:
            span.compute(x, y, y)
        return y

    def _span(self, linear: FrozenLinear, x: Tensor, span: Span, draw: Draw | None) -> _DoraSpan:
        update = self._updates[span.slot]
        if span.slot not in self._weights:
            self._weights[span.slot] = _prepare(update, linear, self._dtype)
        found = _DoraSpan(span.start, span.stop, update, self._weights[span.slot], linear)
        if draw is None or not update.dropout:
            return found
        shape = torch.Size((span.stop - span.start, *x.shape[1:]))
        return replace(found, kept=draw(span.slot, update.dropout, shape))


@torch.no_grad()
def _prepare(update: DoraPart, linear: FrozenLinear, dtype: torch.dtype) -> _Weights:
    norms = update.norms(linear)
    A, B, magnitude = update.A.detach(), update.B.detach(), update.magnitude.detach()
    return _Weights(A.to(dtype), B.to(dtype), norms, magnitude / norms)


class _AddDora(torch.autograd.Function):
    """The output of a linear in each adapter's rows, with the gradients at the top of this file."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, spans: Sequence[_DoraSpan], *parameters: nn.Parameter
    ) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        kept = [span.compute(x, y, out) for span in spans]
        # Masks are saved as tensors too, so that activation checkpointing can free them; parameters are
        # saved because it must be an error if they change before the backward pass.
        ctx.spans = [replace(span, kept=None) for span in spans]
        tensors = [tensor for pair in kept for tensor in pair]
        ctx.save_for_backward(x, *tensors, *(span.kept for span in spans), *parameters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        num = len(ctx.spans)
        into_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        into_y = upstream.clone() if ctx.needs_input_grad[1] else None
        into_parameters: list[Tensor] = []
        for number, bare in enumerate(ctx.spans):
            span = replace(bare, kept=saved[2 * num + number])
            low, z = saved[2 * number : 2 * number + 2]
            into_parameters += _backward(span, x, upstream, low, z, into_x, into_y)
        return into_x, into_y, None, *into_parameters


def _backward(
    span: _DoraSpan,
    x: Tensor,
    upstream: Tensor,
    low: Tensor,
    z: Tensor,
    into_x: Tensor | None,
    into_y: Tensor | None,
) -> tuple[Tensor, ...]:
    """Return the gradients of A, B and the magnitudes; write those of x and y to the span's rows."""
    weights, place = span.weights, slice(span.start, span.stop)
    own = span.own(upstream).to(low.dtype)
    scaled = own * weights.factors.to(low.dtype)  # ∂z
    into_low = (scaled @ weights.B).mul_(span.scaling)
    into_A = into_low.T @ span.drop(span.own(x).to(low.dtype))
    into_B = (scaled.T @ low).mul_(span.scaling)
    into_magnitude = (own.float() * z.float()).sum(0) / weights.norms
    if into_y is not None and span.kept is None:
        into_y[place] = scaled.view_as(into_y[place])
    if into_x is not None:
        through = into_low @ weights.A
        if span.kept is not None:
            weight = span.linear.dense()
            into_base = ((scaled - own) * span.input_scaling).to(weight.dtype)
            through = span.drop(through + (into_base @ weight).to(low.dtype))
        into_x[place] = through.view_as(into_x[place])
    return into_A.float(), into_B.float(), into_magnitude

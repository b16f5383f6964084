"""A pass in which every linear computes its adapters in a handful of kernels.

`FusedPass.linears` computes what `AdapterPass.compute` computes, for training: the base's product and what
adapters add are one autograd node, without Python code for each adapter, stored masks or transfers to
the host, so a CUDA graph can record the pass. `tests/training/test_static_passes.py` compares it with
the plain version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loraloom.bank.bank import AdapterBank
from loraloom.bank.fused.adapter_group import AdapterGroup, GroupPart, is_alike
from loraloom.bank.fused.hashed import HashedDropout, module_salt, threshold
from loraloom.bank.fused.products import down, gather, spread
from loraloom.bank.linear import BankLinear
from loraloom.data.batches import Batch, Side, token_positions
from loraloom.data.ownership import Rows


class _Update(NamedTuple):
    """What one group adds to a linear, in the rows from `start` to `stop`."""

    start: int
    stop: int
    part: GroupPart
    dropout: HashedDropout | None

    def own(self, x: Tensor) -> Tensor:
        """Return the group's rows of x, [adapters, tokens per adapter, features]."""
        return x[self.start : self.stop].view(len(self.part.A), -1, x.shape[-1])


class _Call(NamedTuple):
    """One of several linears that share an input."""

    weight: Tensor
    bias: Tensor | None
    updates: Sequence[_Update]


class _FusedLinears(torch.autograd.Function):
    """W x + b and what adapters add, for linears that share one input; `products.py` has the formulas.

    What adapters add is computed first, and the base's product is added to it in the same kernel. Adding it
    afterwards would read and write every output once more.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor, residual: Tensor | None, calls: Sequence[_Call]
    ) -> tuple[Tensor, ...]:
        outputs, lows = [], []
        for weight, bias, updates in calls:
            if not updates and residual is None:
                outputs.append(F.linear(x, weight, bias))
                continue
            y = _begin(x, weight.shape[0], updates, residual)
            for update in updates:
                low = down(update.own(x), update.part.A, update.dropout)
                before = update.own(residual) if residual is not None else None
                spread(low, update.part.B.mT, update.own(y), before=before)
                lows.append(low)
            _flat(y).addmm_(_flat(x), weight.t())
            outputs.append(y if bias is None else y.add_(bias))
        ctx.calls = calls
        ctx.save_for_backward(x, *lows)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstreams: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        x, *lows = ctx.saved_tensors
        upstreams = tuple(upstream.contiguous() for upstream in upstreams)
        into_x = _begin(x, x.shape[-1], ctx.calls[0].updates) if ctx.needs_input_grad[0] else None
        remaining = iter(lows)
        for number, (call, upstream) in enumerate(zip(ctx.calls, upstreams, strict=True)):
            for update in call.updates:
                part, own, low = update.part, update.own(upstream), next(remaining)
                up = down(own, part.B.mT)
                if into_x is not None:
                    own_x = update.own(into_x)
                    spread(up, part.A, own_x, update.dropout, before=own_x if number else None)
                gather(update.own(x), up, part.into_A, update.dropout)
                gather(own, low, part.into_B.mT)
        if into_x is not None:
            for call, upstream in zip(ctx.calls, upstreams, strict=True):
                _flat(into_x).addmm_(_flat(upstream), call.weight)
        return into_x, None, upstreams[0] if ctx.needs_input_grad[2] else None, None


def _flat(x: Tensor) -> Tensor:
    return x.view(-1, x.shape[-1])


def _begin(
    x: Tensor, num_features: int, updates: Sequence[_Update], residual: Tensor | None = None
) -> Tensor:
    """Allocate an output; rows that no update overwrites get the residual, or zeros if there is none."""
    y = x.new_empty(*x.shape[:-1], num_features)
    starts, stops = [update.start for update in updates], [update.stop for update in updates]
    for first, last in zip([0, *stops], [*starts, len(y)], strict=True):
        if last > first and residual is None:
            y[first:last].zero_()
        elif last > first and residual is not None:
            y[first:last].copy_(residual[first:last])
    return y


class FusedPass:
    """The computation of a bank's linears in training passes of one shape.

    Args:
        bank: the bank, with the adapters attached.
        rows: the spans of the pass.
        seeds: int32 [spans, 2], from `hashed.pass_seed`; the values may change between passes.
        ordinals: for each side int32 [rows, len], from `ordinals_of`; the values may change too.
    """

    def __init__(self, bank: AdapterBank, rows: Rows, seeds: Tensor, ordinals: Mapping[Side, Tensor]) -> None:
        self._bank, self._rows, self._ordinals = bank, rows, ordinals
        self._anchor = torch.zeros((), device=seeds.device, requires_grad=True)
        self._groups: list[_GroupInRows] = []
        start = 0
        for first, slots, num_rows in _joined(bank, rows):
            stop = start + num_rows
            if slots:
                group = AdapterGroup(bank, slots, bank.base.model.dtype)
                self._groups.append(_GroupInRows(start, stop, group, seeds[first : first + len(slots)]))
            start = stop

    def linears(
        self, modules: Sequence[Any], x: Tensor, residual: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Compute linears that share one input, including those that no adapter targets.

        Args:
            modules: the linears, as they are in the model: wrapped by the bank or not.
            x: [rows, len, in].
            residual: [rows, len, out], added to the output; requires a single module.

        Returns:
            The output of each linear, [rows, len, out].
        """
        calls = [self._call(module) for module in modules]
        return _FusedLinears.apply(x.contiguous(), self._anchor, residual, calls)  # type: ignore[no-any-return, no-untyped-call]

    def _call(self, module: Any) -> _Call:
        if not isinstance(module, BankLinear):
            return _Call(module.weight, module.bias, ())
        base: Any = module.base
        assert len(module.sides) == 1, f"{module.name} is used {len(module.sides)} times a pass"
        updates = [
            group.update(module, self._ordinals[module.sides[0]])
            for group in self._groups
            if module.name in group.group.parts
        ]
        return _Call(base.weight, base.bias, updates)

    def linear(self, module: BankLinear, x: Tensor) -> Tensor:
        """Compute a linear that shares its input with no other, [rows, len, in] → [rows, len, out]."""
        return self.linears((module,), x)[0]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Open a pass computed by this object; at its end, the adapters' parameters get their gradients."""
        base = self._bank.base
        for group in self._groups:
            group.group.refresh()
        with (
            self._bank.rows(self._rows, fused=self),
            base.family.computing_layers(base.model, self.linears),
        ):
            yield
        for group in self._groups:
            group.group.add_gradients()


class _GroupInRows:
    """A group of adapters, and its rows in a pass."""

    def __init__(self, start: int, stop: int, group: AdapterGroup, seeds: Tensor) -> None:
        self.start, self.stop, self.group, self.seeds = start, stop, group, seeds
        self.thresholds = torch.tensor([threshold(p) for p in group.dropouts], dtype=torch.int32)
        self.thresholds = self.thresholds.to(seeds.device)

    def update(self, module: BankLinear, ordinals: Tensor) -> _Update:
        """Return what the group adds to a linear."""
        dropout = None
        if any(self.group.dropouts):
            own = ordinals[self.start : self.stop].view(len(self.group.slots), -1)
            dropout = HashedDropout(own, self.seeds, self.thresholds, module_salt(module.name))
        return _Update(self.start, self.stop, self.group.parts[module.name], dropout)


def _joined(bank: AdapterBank, rows: Rows) -> list[tuple[int, list[str], int]]:
    """Join neighbouring spans into groups; return the first span, slots and number of rows of each group."""
    joined: list[tuple[int, list[str], int]] = []
    for number, (slot, num_rows) in enumerate(zip(rows.slots, rows.num_rows, strict=True)):
        if slot is None:
            joined.append((number, [], num_rows))
            continue
        first, before, rows_before = joined[-1] if joined else (number, [], 0)
        if before and rows_before == num_rows * len(before) and is_alike(bank, before[0], slot):
            joined[-1] = first, [*before, slot], rows_before + num_rows
        else:
            joined.append((number, [slot], num_rows))
    return joined


def ordinals_of(batch: Batch, side: Side, width: int, first: Sequence[int] | None = None) -> Tensor:
    """Number the tokens of each adapter within its micro-batch, in the order of the examples.

    Args:
        batch: the batch, on the CPU.
        side: source or target tokens.
        width: width of the rows.
        first: for each span, the number of tokens that its micro-batch has in earlier slices.

    Returns:
        int32 [rows, width]; 0 at padding.
    """
    firsts = [0] * len(batch.num_rows) if first is None else list(first)
    segments = batch.segments[side]
    counts = [sum(segment.length for segment in own) for own in segments]
    places = np.concatenate([np.arange(count) + start for count, start in zip(counts, firsts, strict=True)])
    flat = np.zeros(sum(batch.num_rows) * width, dtype=np.int32)
    flat[token_positions(segments, batch.num_rows, width)] = places
    return torch.from_numpy(flat).view(-1, width)

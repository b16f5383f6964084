"""All that a pass over the base needs to know of its adapters: made once, read by every linear.

Whose rows are whose, which adapters share a product, and what dropout is drawn from are settled here for a
whole pass; linears with the same adapters share the result. `bank.rows` makes it and sets it as the base's
current pass (`base/current_pass.py`); nothing of it changes afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from loraloom.bank.ownership import Draws, IndexedRows, Rows
from loraloom.bank.updates.update import Draw, Span, Stack, update_stacks
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.data.batches import Side


class AdaptedLinear(Protocol):
    """What a pass needs of a linear with adapters.

    Args:
        name: its path in the model.
        sides: whose tokens its inputs have, one for each time that a pass uses it.
        base: the module that it stands for; frozen: the same as adapters see it.
    """

    base: nn.Module
    name: str
    sides: tuple[Side, ...]
    frozen: FrozenLinear

    @property
    def stacks(self) -> Sequence[Stack]:
        """Its adapters, those of one kind side by side."""


@dataclass(frozen=True)
class _Placement:
    """Where the rows of adapters lie in a batch of some size.

    Args:
        spans: of each adapter; of the batch itself, or of the rows in `index`.
        index: int64, the rows that have an adapter, if they do not lie side by side.
    """

    spans: Sequence[Span]
    index: Tensor | None = None


class FusedLinear(Protocol):
    """Another way to compute the linears of a pass (`bank/fused`)."""

    def linear(self, module: AdaptedLinear, x: Tensor) -> Tensor:
        """[rows, len, in] → [rows, len, out], with each row's own adapter."""


class AdapterPass:
    """A pass, and the backward pass that follows.

    Args:
        rows: whose rows a batch has.
        fused: how the linears compute, if not each by its own stacks.
    """

    def __init__(self, rows: Rows | IndexedRows, fused: FusedLinear | None = None) -> None:
        self.rows = rows
        self._fused = fused
        self._placements: dict[tuple[int, torch.device], _Placement] = {}
        self._groups: dict[tuple[Hashable, int], Sequence[Any]] = {}
        self._num_uses: Counter[str] = Counter()

    @property
    def draws(self) -> Draws | None:
        """What random numbers are functions of; None if nothing is dropped."""
        return self.rows.draws if isinstance(self.rows, Rows) else None

    def compute(self, linear: AdaptedLinear, x: Tensor) -> Tensor:
        """A linear of x, [rows, len, in] → [rows, len, out], with each row's own adapter."""
        if self._fused is not None:
            return self._fused.linear(linear, x)
        y: Tensor = linear.base(x)
        return self.add(linear, x, y)

    def add(self, linear: AdaptedLinear, x: Tensor, y: Tensor) -> Tensor:
        """What a linear gives with each row's own adapter.

        Args:
            linear: with its adapters.
            x: its input, [rows, len, in].
            y: the frozen linear's output, [rows, len, out].
        """
        placement = self._placement(len(x), linear.name, x.device)
        if not placement.spans:
            return y
        if placement.index is None:
            return self._add(linear, x, y, placement.spans)
        index = placement.index
        return y.index_copy(0, index, self._add(linear, x[index], y[index], placement.spans))

    def count_use(self, module: str) -> int:
        """How many times a module was used in this pass before."""
        self._num_uses[module] += 1
        return self._num_uses[module] - 1

    def _add(self, linear: AdaptedLinear, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:
        update_stacks(linear.stacks, only_if_changed=True)  # an optimizer may have stepped within the pass
        draw = self._draw(linear, x.device)
        for stack in linear.stacks:
            key = stack.signature, len(x)
            if key not in self._groups:
                self._groups[key] = stack.group(spans)
            y = stack.add(linear.frozen, x, y, self._groups[key], draw)
        return y

    def _draw(self, linear: AdaptedLinear, device: torch.device) -> Draw | None:
        draws = self.draws
        if draws is None:
            return None
        name, side = linear.name, linear.sides[0]
        if len(linear.sides) > 1:  # a layer that is recomputed uses them all again, in the same order
            side = linear.sides[self.count_use(linear.name) % len(linear.sides)]
            name = f"{linear.name}#{side}"

        def draw(slot: str, p: float, shape: torch.Size) -> Tensor:
            return draws.kept(slot, name, side, p, shape, device)

        return draw

    def _placement(self, num_rows: int, module: str, device: torch.device) -> _Placement:
        key = num_rows, device
        if key not in self._placements:
            self._placements[key] = self._place(num_rows, module, device)
        return self._placements[key]

    def _place(self, num_rows: int, module: str, device: torch.device) -> _Placement:
        if isinstance(self.rows, IndexedRows):
            index, spans = self.rows.spans(num_rows, module)
            return _Placement([Span(*span) for span in spans], torch.tensor(index, device=device))
        shares = self.rows.spans(num_rows, module)
        return _Placement([Span(slot, start, stop) for slot, start, stop in shares if slot is not None])

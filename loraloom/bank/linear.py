"""A frozen linear with N adapters, and the pass that records which adapter owns each row.

`bank.rows(...)` opens an `AdapterPass`, which computes each `BankLinear`: the frozen linear once, whatever N
is, and what each adapter adds to its own rows, as its kind (`updates/`) defines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.updates.update import Draw, Span, Stack, Update, UpdateKind
from loraloom.base.current_pass import CurrentPass
from loraloom.base.frozen_linear import frozen_linear
from loraloom.base.loading import Base
from loraloom.data.batches import Side
from loraloom.data.ownership import Draws, Rows
from loraloom.errors import BankError
from loraloom.text.message import Message


class BankLinear(nn.Module):
    """A replacement for a linear of the base: its output, plus what each row's own adapter adds.

    Outside of `bank.rows(...)`, and for rows of the base, it computes the linear alone.

    Args:
        base: the frozen linear, which owns its weights; this module owns none.
        name: path of the linear in the model; the random numbers of its adapters are functions of this path.
        sides: for each use of the linear in a pass, the side that the input tokens belong to.
        current_pass: the current pass of the base.
    """

    def __init__(
        self,
        base: nn.Module,
        name: str,
        sides: tuple[Side, ...],
        current_pass: CurrentPass[AdapterPass],
    ) -> None:
        super().__init__()
        self.base = base
        self.frozen = frozen_linear(base)
        self.name = name
        self.sides = sides
        self.current_pass = current_pass
        self.updates: dict[str, Update] = {}
        self._kinds: dict[str, UpdateKind] = {}
        self._stacks: list[Stack] | None = None

    @property
    def weight(self) -> Tensor:
        """The base's weight; transformers' T5 reads the dtype of `wo.weight`."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def stacks(self) -> list[Stack]:
        """The stacks of its adapters, one for each kind of adapter."""
        if self._stacks is None:
            self._stacks = [
                kind.stack(
                    {slot: update for slot, update in self.updates.items() if self._kinds[slot] is kind},
                    self.frozen.dtype,
                )
                for kind in dict.fromkeys(self._kinds.values())
            ]
        return self._stacks

    def attach(self, slot: str, kind: UpdateKind, update: Update) -> None:
        """Add an adapter's part for this linear."""
        self.updates[slot], self._kinds[slot] = update, kind
        self._stacks = None

    def drop(self, slot: str) -> None:
        """Remove an adapter's part for this linear, if it has one."""
        if self.updates.pop(slot, None) is not None:
            del self._kinds[slot]
            self._stacks = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute [rows, len, in] → [rows, len, out]."""
        running = self.current_pass.get()
        return self.base(x) if running is None else running.compute(self, x)


class FusedLinear(Protocol):
    """Another way to compute the linears of a pass (`bank/fused`)."""

    def linear(self, module: BankLinear, x: Tensor) -> Tensor:
        """Compute [rows, len, in] → [rows, len, out], with each row's own adapter."""


class _PassSpans(NamedTuple):
    """The spans of adapters in a batch with a given number of rows.

    Args:
        spans: the spans, as ranges of the batch's rows, or of indices into `rows` if `rows` is given.
        rows: int64 [n], the rows that have an adapter; None if each adapter's rows are contiguous.
    """

    spans: Sequence[Span]
    rows: Tensor | None = None


class AdapterPass:
    """One pass over the base, and the backward pass that follows.

    It computes once what all linears need: which adapter owns which rows, and which adapters share a product.

    Args:
        rows: the owner of each row of a batch.
        fused: computes the linears; None if each linear is computed by its own stacks.
    """

    def __init__(self, rows: Rows | IndexedRows, fused: FusedLinear | None = None) -> None:
        self.rows = rows
        self._fused = fused
        self._spans: dict[tuple[int, torch.device], _PassSpans] = {}
        self._groups: dict[tuple[Hashable, int], Sequence[Any]] = {}
        self._num_uses: Counter[str] = Counter()

    @property
    def draws(self) -> Draws | None:
        """What the random numbers depend on; None if nothing is dropped."""
        return self.rows.draws if isinstance(self.rows, Rows) else None

    def compute(self, linear: BankLinear, x: Tensor) -> Tensor:
        """Compute a linear with each row's own adapter, [rows, len, in] → [rows, len, out]."""
        if self._fused is not None:
            return self._fused.linear(linear, x)
        spans, index = self._spans_in(len(x), linear.name, x.device)
        if spans and index is None:
            return self._add(linear, x, None, spans)
        y: Tensor = linear.base(x)
        if index is None or not spans:
            return y
        return y.index_copy(0, index, self._add(linear, x[index], y[index], spans))

    def count_use(self, module: str) -> int:
        """Count a use of a module, and return the number of its earlier uses in this pass."""
        self._num_uses[module] += 1
        return self._num_uses[module] - 1

    def _add(self, linear: BankLinear, x: Tensor, y: Tensor | None, spans: Sequence[Span]) -> Tensor:
        """Return y plus what the adapters of these spans add; without y, start from the linear's output."""
        refresh(linear.stacks, self.rows.owners, only_if_changed=True)  # after a step within a pass
        draw = self._draw(linear, x.device)
        for stack in linear.stacks:
            key = stack.signature, len(x)
            if key not in self._groups:
                self._groups[key] = stack.group(spans)
            y = stack.add(linear.frozen, x, y, self._groups[key], draw)
        return linear.base(x) if y is None else y

    def _draw(self, linear: BankLinear, device: torch.device) -> Draw | None:
        """Return a function that draws dropout for a linear's input; None if nothing is dropped."""
        draws = self.draws
        if draws is None:
            return None
        name, side = linear.name, linear.sides[0]
        if len(linear.sides) > 1:  # a recomputed layer uses all sides again, in the same order
            side = linear.sides[self.count_use(linear.name) % len(linear.sides)]
            name = f"{linear.name}#{side}"
        return lambda slot, p, shape: draws.kept(slot, name, side, p, shape, device)

    def _spans_in(self, num_rows: int, module: str, device: torch.device) -> _PassSpans:
        key = num_rows, device
        if key not in self._spans:
            self._spans[key] = self._find_spans(num_rows, module, device)
        return self._spans[key]

    def _find_spans(self, num_rows: int, module: str, device: torch.device) -> _PassSpans:
        if isinstance(self.rows, IndexedRows):
            index, spans = self.rows.spans(num_rows, module)
            return _PassSpans(spans, torch.tensor(index, device=device))
        owners = self.rows.spans(num_rows, module)
        return _PassSpans([Span(slot, start, stop) for slot, start, stop in owners if slot is not None])


@contextmanager
def open_pass(
    base: Base,
    wrapped: Mapping[str, BankLinear],
    slots: Collection[str],
    rows: Rows | IndexedRows,
    *,
    follows: AdapterPass | None = None,
    fused: FusedLinear | None = None,
) -> Iterator[AdapterPass]:
    """Open a pass: inside the `with` block, the rows of this thread's batches belong to these owners.

    The backward pass belongs inside the block too, because it may recompute activations.

    Args:
        base: the base, with the adapters attached.
        wrapped: the base's linears that adapters target, by name.
        slots: the adapters.
        rows: the owner of each row of a batch.
        follows: an earlier pass, such as that of the previous token; unchanged parameters are not recopied.
        fused: computes the linears; None if each linear is computed by its own stacks.

    Raises:
        BankError: an owner is not in this bank, another thread is using the base, or a pass is open
            already.
    """
    unknown = rows.owners - set(slots)
    if unknown:  # otherwise the base would answer in its place
        raise BankError(
            Message("no adapter `{unknown}` is attached to this bank", unknown=min(unknown)),
            allowed=", ".join(slots) or Message("the base alone"),
        )
    with base.occupancy.one_pass():
        if rows.owners and fused is None:
            stacks = (stack for linear in wrapped.values() for stack in linear.stacks)
            refresh(stacks, rows.owners, only_if_changed=follows is not None)
        adapter_pass = AdapterPass(rows, fused)
        with base.current_pass.set(adapter_pass):
            yield adapter_pass


@torch.no_grad()
def refresh(stacks: Iterable[Stack], owners: Collection[str], *, only_if_changed: bool = False) -> None:
    """Copy adapters' parameters into their stacks, all with one call.

    Args:
        stacks: stacks of any linears.
        owners, only_if_changed: as in `Stack.copies`.
    """
    destinations: list[Tensor] = []
    sources: list[Tensor] = []
    for stack in stacks:
        into, out_of = stack.copies(owners, only_if_changed=only_if_changed)
        destinations += into
        sources += out_of
    if destinations:
        torch._foreach_copy_(destinations, sources)

"""The adapters of a linear as one wide low-rank product, for rows of any owners in any order.

In decoding, each row is one token, and neighbouring rows may belong to different adapters. With all Aᵀ side
by side and all Bᵀ below one another, two products serve every row, and a mask keeps, for each row, only the
columns of its own adapter:

    y + ((x [A₁ᵀ A₂ᵀ …]) ∘ mask) [s₁B₁ s₂B₂ …]ᵀ

So no rows are gathered or sorted, and nothing is laid out again if a row joins or leaves. The columns
of the other adapters are computed but not used; on a GPU, this costs less than launching more kernels. On a
CPU, the rows are grouped by adapter instead if this at least halves the work; the groups are padded to the
same size and multiplied as a batch of small products. With eight adapters, this is an eighth of the
arithmetic. In the encoder, a row has many tokens: there each row is multiplied by a copy of its own adapter,
which is small compared with the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.bank.updates.low_rank import LowRank

MAX_COLUMNS = 512  # with more, columns of other adapters outweigh the frozen linear itself


class _Wide(NamedTuple):
    """A linear's adapters, stored twice: side by side, and each by itself.

    Args:
        A, B: [in, columns] and [columns, out]; B is multiplied by the scaling.
        columns: slot and rank of each adapter, in the order of its columns.
        own_a, own_b: [1 + adapters, in, r] and [1 + adapters, r, out], where r is the largest rank; the
            first matrix of each is all zeros, for rows of the base.
    """

    A: Tensor
    B: Tensor
    columns: tuple[tuple[str, int], ...]
    own_a: Tensor
    own_b: Tensor


class _RowsByAdapter(NamedTuple):
    """The rows of a batch, grouped by adapter; copies of row 0 pad the groups to the same size.

    Args:
        first, stop: index in `own_a` of the first adapter that has rows, and one past that of the last.
        gathered: the row at each position of the groups, int64 [adapters * size of a group].
        inverse: the position in `gathered` of each row that has an adapter, int64.
        owned: the rows that have an adapter, int64; None if all rows have one.
    """

    first: int
    stop: int
    gathered: Tensor
    inverse: Tensor
    owned: Tensor | None


class WideProducts:
    """The adapters of a bank, laid out for decoding; valid until an adapter changes, joins or leaves.

    Args:
        bank: the bank, with the adapters attached.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self._wide: dict[str, _Wide] = {}
        self._has_others = False
        names = sorted({name for slot in bank.slots for name in bank.parts(slot)})
        parts = {slot: bank.parts(slot) for slot in bank.slots}
        modules = dict(bank.base.model.named_modules())
        for name in names:
            module = modules[name]
            assert isinstance(module, BankLinear), name
            own = {slot: update[name] for slot, update in parts.items() if name in update}
            low_ranks = {slot: update for slot, update in own.items() if isinstance(update, LowRank)}
            if len(low_ranks) < len(own):  # such as DoRA's
                self._has_others = True
                return
            self._wide[name] = _side_by_side(low_ranks, module.frozen.dtype)

    @property
    def is_worthwhile(self) -> bool:
        """Whether all adapters are low-rank products, and no linear has more than `MAX_COLUMNS` columns."""
        return not self._has_others and all(wide.A.shape[1] <= MAX_COLUMNS for wide in self._wide.values())

    def of_rows(self, slots: Sequence[str | None]) -> RowProducts:
        """Return an object that computes the linears of a pass; `slots` names the owner of each row."""
        return RowProducts(self._wide, tuple(slots))


class RowProducts:
    """A `FusedLinear` for `open_pass` that computes the linears of passes with a fixed owner for each row.

    Args:
        wide: the adapters of each linear that has any.
        slots: the owner of each row.
    """

    def __init__(self, wide: dict[str, _Wide], slots: tuple[str | None, ...]) -> None:
        self._wide, self._slots = wide, slots
        self._masks: dict[tuple[tuple[str, int], ...], Tensor] = {}
        self._indices: dict[tuple[tuple[str, int], ...], Tensor] = {}
        self._by_adapter: dict[tuple[tuple[str, int], ...], _RowsByAdapter | None] = {}

    def linear(self, module: BankLinear, x: Tensor) -> Tensor:
        """Compute [rows, len, in] → [rows, len, out], with each row's own adapter."""
        y: Tensor = module.base(x)
        wide = self._wide.get(module.name)
        if wide is None:
            return y
        if x.shape[1] > 1:
            index = self._index(wide, x.device)
            return torch.baddbmm(y, torch.bmm(x, wide.own_a[index]), wide.own_b[index])
        if x.device.type == "cpu" and (rows := self._sorted_rows(wide, x.device)) is not None:
            return _add_by_adapter(wide, rows, x, y)
        low = (x @ wide.A).mul_(self._mask(wide, x))
        return torch.addmm(y.reshape(-1, y.shape[-1]), low.reshape(-1, low.shape[-1]), wide.B).view_as(y)

    def _mask(self, wide: _Wide, x: Tensor) -> Tensor:
        """Return [rows, 1, columns], with 1 in the columns of the row's own adapter and 0 elsewhere."""
        if wide.columns not in self._masks:
            owners = [slot for slot, r in wide.columns for _ in range(r)]
            kept = [[owner == slot for owner in owners] for slot in self._slots]
            self._masks[wide.columns] = torch.tensor(kept, dtype=x.dtype, device=x.device)[:, None]
        return self._masks[wide.columns]

    def _index(self, wide: _Wide, device: torch.device) -> Tensor:
        """Return the index in `own_a` of each row's adapter, int64 [rows]; 0 if it has none here."""
        if wide.columns not in self._indices:
            self._indices[wide.columns] = torch.tensor(self._places(wide), device=device)
        return self._indices[wide.columns]

    def _places(self, wide: _Wide) -> list[int]:
        places = {slot: place for place, (slot, _) in enumerate(wide.columns, start=1)}
        return [0 if slot is None else places.get(slot, 0) for slot in self._slots]

    def _sorted_rows(self, wide: _Wide, device: torch.device) -> _RowsByAdapter | None:
        """Return the rows grouped by adapter; None if no row has one, or the work would not be halved."""
        if wide.columns not in self._by_adapter:
            self._by_adapter[wide.columns] = _sort_rows(self._places(wide), wide, device)
        return self._by_adapter[wide.columns]


def _sort_rows(places: Sequence[int], wide: _Wide, device: torch.device) -> _RowsByAdapter | None:
    rows: dict[int, list[int]] = {}
    for row, place in enumerate(places):
        if place:
            rows.setdefault(place, []).append(row)
    if not rows:
        return None
    first, stop, size = min(rows), max(rows) + 1, max(map(len, rows.values()))
    num_products = (stop - first) * size * wide.own_a.shape[2]
    if 2 * num_products > len(places) * wide.A.shape[1]:
        return None
    gathered = [0] * ((stop - first) * size)
    inverse = {}
    for place, own in rows.items():
        for position, row in enumerate(own, start=(place - first) * size):
            gathered[position], inverse[row] = row, position
    owned = sorted(inverse)
    return _RowsByAdapter(
        first,
        stop,
        torch.tensor(gathered, device=device),
        torch.tensor([inverse[row] for row in owned], device=device),
        None if len(owned) == len(places) else torch.tensor(owned, device=device),
    )


def _add_by_adapter(wide: _Wide, rows: _RowsByAdapter, x: Tensor, y: Tensor) -> Tensor:
    """Return y plus what each row's own adapter adds, both [rows, 1, out]."""
    own = slice(rows.first, rows.stop)
    gathered = x[:, 0].index_select(0, rows.gathered).view(rows.stop - rows.first, -1, x.shape[-1])
    added = torch.bmm(torch.bmm(gathered, wide.own_a[own]), wide.own_b[own]).flatten(0, 1)
    added = added.index_select(0, rows.inverse)[:, None]
    return y + added if rows.owned is None else y.index_add(0, rows.owned, added)


@torch.no_grad()
def _side_by_side(updates: dict[str, LowRank], dtype: torch.dtype) -> _Wide:
    A = torch.cat([update.A.detach() for update in updates.values()]).t().contiguous()
    B = torch.cat([update.B.detach().t() * update.scaling for update in updates.values()])
    columns = tuple((slot, update.r) for slot, update in updates.items())
    A, B = A.to(dtype), B.to(dtype).contiguous()
    ranks = [r for _, r in columns]
    own_a = A.new_zeros(1 + len(ranks), A.shape[0], max(ranks))
    own_b = B.new_zeros(1 + len(ranks), max(ranks), B.shape[1])
    factors = zip(ranks, A.split(ranks, dim=1), B.split(ranks), strict=True)
    for place, (r, of_a, of_b) in enumerate(factors, start=1):
        own_a[place, :, :r], own_b[place, :r] = of_a, of_b
    return _Wide(A, B, columns, own_a, own_b)

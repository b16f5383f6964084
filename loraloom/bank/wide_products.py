"""The adapters of a linear as one wide low-rank product, for rows of any owners in any order.

For decoding, each row is one token and its neighbours belong to other adapters. With all A side by side and
all B below one another, two products serve every row, and a mask keeps for each row the columns of its own
adapter:

    y + ((x [A₁ A₂ …]ᵀ) ∘ mask) [s₁B₁ s₂B₂ …]ᵀ

So no rows are gathered or sorted, and nothing is laid out again if a row joins or leaves. It computes the
columns of the other adapters in vain, which at a few rows per adapter costs less than a product for each.
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
    """A linear's adapters: A [in, columns], B [columns, out] times the scaling, and whose the columns are."""

    A: Tensor
    B: Tensor
    columns: tuple[tuple[str, int], ...]


class WideProducts:
    """The adapters of a bank, laid out for decoding; made anew if one is attached, dropped or changed.

    Args:
        bank: with the adapters attached.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self._wide: dict[str, _Wide] = {}
        names = sorted({name for slot in bank.slots for name in bank.parts(slot)})
        parts = {slot: bank.parts(slot) for slot in bank.slots}
        modules = dict(bank.base.model.named_modules())
        for name in names:
            module = modules[name]
            assert isinstance(module, BankLinear), name
            own = {slot: update[name] for slot, update in parts.items() if name in update}
            low_ranks = {slot: update for slot, update in own.items() if isinstance(update, LowRank)}
            assert len(low_ranks) == len(own), "a kind of adapter that is no low-rank product"
            self._wide[name] = _side_by_side(low_ranks, module.frozen.dtype)

    @property
    def is_worthwhile(self) -> bool:
        """Whether the adapters are few enough."""
        return all(wide.A.shape[1] <= MAX_COLUMNS for wide in self._wide.values())

    def of_rows(self, slots: Sequence[str | None]) -> RowProducts:
        """Return how a pass computes its linears whose rows belong to these adapters."""
        return RowProducts(self._wide, tuple(slots))


class RowProducts:
    """The linears of passes over rows with the same owners; `FusedLinear` of a pass.

    Args:
        wide: of each linear that has adapters.
        slots: the owner of each row.
    """

    def __init__(self, wide: dict[str, _Wide], slots: tuple[str | None, ...]) -> None:
        self._wide, self._slots = wide, slots
        self._masks: dict[tuple[tuple[str, int], ...], Tensor] = {}

    def linear(self, module: BankLinear, x: Tensor) -> Tensor:
        """[rows, len, in] → [rows, len, out], with each row's own adapter."""
        y: Tensor = module.base(x)
        wide = self._wide.get(module.name)
        if wide is None:
            return y
        low = (x @ wide.A).mul_(self._mask(wide, x))
        return torch.addmm(y.reshape(-1, y.shape[-1]), low.reshape(-1, low.shape[-1]), wide.B).view_as(y)

    def _mask(self, wide: _Wide, x: Tensor) -> Tensor:
        """[rows, 1, columns]: 1 in the columns of the row's own adapter."""
        if wide.columns not in self._masks:
            owners = [slot for slot, r in wide.columns for _ in range(r)]
            kept = [[owner == slot for owner in owners] for slot in self._slots]
            self._masks[wide.columns] = torch.tensor(kept, dtype=x.dtype, device=x.device)[:, None]
        return self._masks[wide.columns]


@torch.no_grad()
def _side_by_side(updates: dict[str, LowRank], dtype: torch.dtype) -> _Wide:
    A = torch.cat([update.A.detach() for update in updates.values()]).t().contiguous()
    B = torch.cat([update.B.detach().t() * update.scaling for update in updates.values()])
    columns = tuple((slot, update.r) for slot, update in updates.items())
    return _Wide(A.to(dtype), B.to(dtype).contiguous(), columns)

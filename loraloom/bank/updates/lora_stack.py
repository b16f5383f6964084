"""LoRA in a pass: the adapters of a linear side by side, and y + s · B A dropout(x) for all of them.

A and B are padded, cast and laid out for batched products when other adapters are attached, and copied into
when a pass opens. So no linear stacks or casts anything, and the tensors have the same addresses in every
pass. A single adapter in the dtype of the products is used directly, without a copy.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from loraloom.bank.updates.low_rank import LowRank
from loraloom.bank.updates.update import Copies, Draw, Span
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.kernels.low_rank_sums import Group, add_low_ranks, linear_with_low_ranks

# Ranks up to this factor apart share a batched product; the smaller ones are padded with zeros.
NEAR_RANKS = 2


class Neighbours(NamedTuple):
    """Neighbouring adapters of a stack, and their rows, the same number for each.

    Args:
        first, last: their numbers among the stack's adapters.
        spans: the rows of each.
    """

    first: int
    last: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class _Shelf:
    """Adapters of near ranks as one pair of tensors.

    Args:
        A: [adapters, r, in], where r is the largest rank.
        B: [adapters, out, r].
        first: the number of its first adapter among the stack's.
    """

    A: Tensor
    B: Tensor
    first: int


class LoraStack:
    """The LoRA adapters of one linear; each method as described in `Stack`.

    Args:
        updates: the adapters' parts by slot, in the order of attachment.
        dtype: dtype of the products, from `product_dtype`.
    """

    def __init__(self, updates: Mapping[str, LowRank], dtype: torch.dtype) -> None:
        self._slots = {slot: number for number, slot in enumerate(updates)}
        self._updates = list(updates.values())
        self._dtype = dtype
        self._copied: dict[str, Copies] = {}
        self._versions: dict[str, list[int]] = {}
        self._shelves: list[_Shelf | None] = []  # the shelf of each adapter
        for first, last in _near_ranks([update.r for update in self._updates]):
            self._shelves += [self._shelf(first, last)] * (last + 1 - first)
        self._scalings: dict[tuple[int, int, bool], float | Tensor] = {}
        self.signature: Hashable = tuple((slot, update.r) for slot, update in updates.items())

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Return the places to copy into, and the parameters; a version is autograd's count of changes."""
        found: Copies = [], []
        for slot in self._copied.keys() & owners:
            versions = [source._version for source in self._copied[slot][1]]
            if not only_if_changed or versions != self._versions.get(slot):
                self._versions[slot] = versions
                for side, own in zip(found, self._copied[slot], strict=True):
                    side.extend(own)
        return found

    def group(self, spans: Sequence[Span]) -> list[Neighbours]:
        """Group neighbouring spans of the same size, if their adapters are neighbours of near ranks."""
        runs: list[Neighbours] = []
        for span in spans:
            if (number := self._slots.get(span.slot)) is None:
                continue
            if runs and self._continues(runs[-1], number, span):
                runs[-1] = Neighbours(runs[-1].first, number, (*runs[-1].spans, span))
            else:
                runs.append(Neighbours(number, number, (span,)))
        return runs

    def _continues(self, near: Neighbours, number: int, span: Span) -> bool:
        is_next = number == near.last + 1 and span.start == near.spans[-1].stop
        is_as_large = span.stop - span.start == near.spans[0].stop - near.spans[0].start
        return is_next and is_as_large and _is_same(self._shelves[near.first], self._shelves[number])

    def add(
        self,
        linear: FrozenLinear,
        x: Tensor,
        y: Tensor | None,
        groups: Sequence[Neighbours],
        draw: Draw | None,
    ) -> Tensor:
        """Compute y + s · B A dropout(x) in the rows of each group."""
        made = [self.group_of(x, near, draw) for near in groups]
        needs_gradient = bool(made) and torch.is_grad_enabled()
        if y is None and needs_gradient and (operands := linear.operands()) is not None:
            return linear_with_low_ranks(x, *operands, made)
        y = linear.product(x) if y is None else y
        if needs_gradient:
            return add_low_ranks(x, y, made)
        for group in made:
            group.add_to(x, y)
        return y

    def group_of(self, x: Tensor, near: Neighbours, draw: Draw | None) -> Group:
        """Return neighbours with their rows of x and their masks."""
        own = self._updates[near.first : near.last + 1]
        A, B = self._stacked(near, own)
        drops = draw is not None and any(update.dropout for update in own)
        parameters = tuple(parameter for update in own for parameter in (update.A, update.B))
        group = Group(
            near.spans[0].start, near.spans[-1].stop, A, B, parameters, self._scaling(near, drops, x.device)
        )
        return replace(group, kept=_kept(x, near, own, draw)) if drops and draw is not None else group

    def _stacked(self, near: Neighbours, own: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
        shelf = self._shelves[near.first]
        if shelf is None or (len(own) == 1 and own[0].A.dtype == self._dtype):
            return own[0].A.detach(), own[0].B.detach()
        if len(own) == 1:
            number, r = near.first - shelf.first, own[0].r
            return shelf.A[number, :r], shelf.B[number, :, :r]
        if len(own) == len(shelf.A):
            return shelf.A, shelf.B
        place, r = slice(near.first - shelf.first, near.last + 1 - shelf.first), max(u.r for u in own)
        return shelf.A[place, :r], shelf.B[place, :, :r]

    def _scaling(self, near: Neighbours, drops: bool, device: torch.device) -> float | Tensor:
        """Return the scaling of each adapter; with dropout, times 1 / (1 - p), so that masks are 0 or 1."""
        key = near.first, near.last, drops
        if key not in self._scalings:
            own = self._updates[near.first : near.last + 1]
            each = [update.scaling / (1 - update.dropout if drops else 1) for update in own]
            self._scalings[key] = (
                each[0] if len(set(each)) == 1 else torch.tensor(each, device=device)[:, None, None]
            )
        return self._scalings[key]

    @torch.no_grad()
    def _shelf(self, first: int, last: int) -> _Shelf | None:
        updates = self._updates[first : last + 1]
        A, B = updates[0].A, updates[0].B
        if len(updates) == 1 and A.dtype == self._dtype:
            return None
        r = max(update.r for update in updates)
        shelf = _Shelf(
            A.new_zeros(len(updates), r, A.shape[1], dtype=self._dtype),
            B.new_zeros(len(updates), B.shape[0], r, dtype=self._dtype),
            first,
        )
        for number, slot in enumerate(list(self._slots)[first : last + 1]):
            places = [shelf.A[number, : updates[number].r], shelf.B[number, :, : updates[number].r]]
            self._copied[slot] = places, [updates[number].A, updates[number].B]
        return shelf


def _is_same(shelf: _Shelf | None, other: _Shelf | None) -> bool:
    return shelf is not None and shelf is other


def _kept(x: Tensor, near: Neighbours, updates: Sequence[LowRank], draw: Draw) -> Tensor:
    """Draw which inputs are not dropped, bool [their rows, len, in], adapter by adapter."""
    masks = []
    for span, update in zip(near.spans, updates, strict=True):
        shape = torch.Size((span.stop - span.start, *x.shape[1:]))
        if update.dropout:
            masks.append(draw(span.slot, update.dropout, shape))
        else:
            masks.append(x.new_ones(shape, dtype=torch.bool))
    return masks[0] if len(masks) == 1 else torch.cat(masks)


def _near_ranks(ranks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and last of neighbours whose ranks are near."""
    found: list[tuple[int, int]] = []
    for number, r in enumerate(ranks):
        if found:
            own = [*ranks[found[-1][0] : number], r]
            if max(own) <= NEAR_RANKS * min(own):
                found[-1] = found[-1][0], number
                continue
        found.append((number, number))
    return found

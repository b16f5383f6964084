"""LoRA in a pass: y + s · B A dropout(x) for all adapters of a linear, with their A and B in stacked tensors.

The padded tensors for batched products, in the dtype of the products, are allocated when the attached
adapters change, and filled when a pass opens. So no linear stacks or casts anything during a pass, and the
tensors have the same addresses in every pass. A single adapter that has this dtype is used without a copy.
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


class SpanGroup(NamedTuple):
    """Consecutive spans with the same number of rows each, which are computed together.

    Args:
        first, last: indices of the first and last adapter in the stack; the adapters are consecutive too.
        spans: the spans, in order.
    """

    first: int
    last: int
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class _StackedFactors:
    """A and B of adapters with similar ranks, stacked in one pair of tensors.

    Args:
        A: [adapters, r, in], where r is the largest rank.
        B: [adapters, out, r].
        first: index of the first of these adapters in the stack.
    """

    A: Tensor
    B: Tensor
    first: int


class LoraStack:
    """The LoRA adapters of one linear; `Stack` documents each method.

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
        self._factors: list[_StackedFactors | None] = []  # for each adapter, those that contain it
        for first, last in _near_ranks([update.r for update in self._updates]):
            self._factors += [self._stack(first, last)] * (last + 1 - first)
        self._scalings: dict[tuple[int, int, bool], float | Tensor] = {}
        self.signature: Hashable = tuple((slot, update.r) for slot, update in updates.items())

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Return the tensors to copy into and to copy from; a version is autograd's count of changes."""
        found: Copies = [], []
        for slot in self._copied.keys() & owners:
            versions = [source._version for source in self._copied[slot][1]]
            if not only_if_changed or versions != self._versions.get(slot):
                self._versions[slot] = versions
                for side, own in zip(found, self._copied[slot], strict=True):
                    side.extend(own)
        return found

    def group(self, spans: Sequence[Span]) -> list[SpanGroup]:
        """Group consecutive spans of equal size if their adapters are consecutive too and similar in rank."""
        groups: list[SpanGroup] = []
        for span in spans:
            if (number := self._slots.get(span.slot)) is None:
                continue
            if groups and self._continues(groups[-1], number, span):
                groups[-1] = SpanGroup(groups[-1].first, number, (*groups[-1].spans, span))
            else:
                groups.append(SpanGroup(number, number, (span,)))
        return groups

    def _continues(self, group: SpanGroup, number: int, span: Span) -> bool:
        is_next = number == group.last + 1 and span.start == group.spans[-1].stop
        is_as_large = span.stop - span.start == group.spans[0].stop - group.spans[0].start
        return is_next and is_as_large and _is_same(self._factors[group.first], self._factors[number])

    def add(
        self,
        linear: FrozenLinear,
        x: Tensor,
        y: Tensor | None,
        groups: Sequence[SpanGroup],
        draw: Draw | None,
    ) -> Tensor:
        """Compute y + s · B A dropout(x) in the rows of each group."""
        made = [self.group_of(x, own, draw) for own in groups]
        needs_gradient = bool(made) and torch.is_grad_enabled()
        if y is None and needs_gradient and (operands := linear.operands()) is not None:
            return linear_with_low_ranks(x, *operands, made)
        y = linear.product(x) if y is None else y
        if needs_gradient:
            return add_low_ranks(x, y, made)
        for group in made:
            group.add_to(x, y)
        return y

    def group_of(self, x: Tensor, own: SpanGroup, draw: Draw | None) -> Group:
        """Return the `Group` of some spans: their rows, adapters, scaling and dropout masks."""
        updates = self._updates[own.first : own.last + 1]
        A, B = self._factors_of(own, updates)
        drops = draw is not None and any(update.dropout for update in updates)
        parameters = tuple(parameter for update in updates for parameter in (update.A, update.B))
        group = Group(
            own.spans[0].start, own.spans[-1].stop, A, B, parameters, self._scaling(own, drops, x.device)
        )
        return replace(group, kept=_kept(x, own, updates, draw)) if drops and draw is not None else group

    def _factors_of(self, own: SpanGroup, updates: Sequence[LowRank]) -> tuple[Tensor, Tensor]:
        factors, first = self._factors[own.first], updates[0]
        if factors is None or (len(updates) == 1 and first.A.dtype == self._dtype):
            return first.A.detach(), first.B.detach()
        if len(updates) == 1:
            number = own.first - factors.first
            return factors.A[number, : first.r], factors.B[number, :, : first.r]
        if len(updates) == len(factors.A):
            return factors.A, factors.B
        place = slice(own.first - factors.first, own.last + 1 - factors.first)
        r = max(update.r for update in updates)
        return factors.A[place, :r], factors.B[place, :, :r]

    def _scaling(self, own: SpanGroup, drops: bool, device: torch.device) -> float | Tensor:
        """Return each adapter's scaling; with dropout, times 1 / (1 - p), so that masks can be 0 or 1."""
        key = own.first, own.last, drops
        if key not in self._scalings:
            updates = self._updates[own.first : own.last + 1]
            each = [update.scaling / (1 - update.dropout if drops else 1) for update in updates]
            self._scalings[key] = (
                each[0] if len(set(each)) == 1 else torch.tensor(each, device=device)[:, None, None]
            )
        return self._scalings[key]

    @torch.no_grad()
    def _stack(self, first: int, last: int) -> _StackedFactors | None:
        updates = self._updates[first : last + 1]
        A, B = updates[0].A, updates[0].B
        if len(updates) == 1 and A.dtype == self._dtype:
            return None
        r = max(update.r for update in updates)
        factors = _StackedFactors(
            A.new_zeros(len(updates), r, A.shape[1], dtype=self._dtype),
            B.new_zeros(len(updates), B.shape[0], r, dtype=self._dtype),
            first,
        )
        for number, slot in enumerate(list(self._slots)[first : last + 1]):
            places = [factors.A[number, : updates[number].r], factors.B[number, :, : updates[number].r]]
            self._copied[slot] = places, [updates[number].A, updates[number].B]
        return factors


def _is_same(factors: _StackedFactors | None, other: _StackedFactors | None) -> bool:
    return factors is not None and factors is other


def _kept(x: Tensor, own: SpanGroup, updates: Sequence[LowRank], draw: Draw) -> Tensor:
    """Draw which inputs of a group are not dropped, adapter by adapter: bool [rows of the group, len, in]."""
    masks = []
    for span, update in zip(own.spans, updates, strict=True):
        shape = torch.Size((span.stop - span.start, *x.shape[1:]))
        if update.dropout:
            masks.append(draw(span.slot, update.dropout, shape))
        else:
            masks.append(x.new_ones(shape, dtype=torch.bool))
    return masks[0] if len(masks) == 1 else torch.cat(masks)


def _near_ranks(ranks: Sequence[int]) -> list[tuple[int, int]]:
    """Divide the adapters into sequences of similar ranks; return the first and last index of each."""
    found: list[tuple[int, int]] = []
    for number, r in enumerate(ranks):
        if found:
            own = [*ranks[found[-1][0] : number], r]
            if max(own) <= NEAR_RANKS * min(own):
                found[-1] = found[-1][0], number
                continue
        found.append((number, number))
    return found

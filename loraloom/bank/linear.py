"""One frozen linear and what N adapters say about it.

    y = W x + (lora_alpha / r) · B A dropout(x)          (Hu et al., 2021, https://arxiv.org/abs/2106.09685)

W is multiplied once a pass, whatever N is. The low-rank updates of adapters whose shares of the
batch have the same size and whose ranks are near run as one batched product, the rest one by one.

All that the adapters add is one node for autograd, with a backward pass of its own: for g = ∂loss/∂y,
s the scaling and m the dropout mask of a share,

    ∂B = s · gᵀ (A (m x))      ∂A = s · (g B)ᵀ (m x)      ∂x = m · (s · g B A)

It keeps x, which q, k and v have in common, a byte of mask an element, and A (m x), which is narrow;
autograd alone would keep m x of each linear, and take some twenty nodes where this takes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraloom.bank.ownership import Ambient, Draws, IndexedRows
from loraloom.data.batches import Side

# Ranks up to this factor apart share a batched product; the smaller ones are padded with zeros.
NEAR_RANKS = 2


@dataclass(frozen=True)
class LowRank:
    """One adapter's part in one linear.

    Args:
        A: [r, in], float32, trained.
        B: [out, r], float32, trained; zero at the start.
        scaling: lora_alpha / r, or lora_alpha / √r.
        dropout: on the input of A while training.
    """

    A: nn.Parameter
    B: nn.Parameter
    scaling: float
    dropout: float

    @property
    def r(self) -> int:
        """The rank."""
        return self.A.shape[0]

    def delta_weight(self) -> Tensor:
        """What merging adds to W: [out, in], float32."""
        return self.B.detach() @ self.A.detach() * self.scaling


@dataclass(frozen=True)
class Group:
    """Neighbouring rows of a batch, shared alike by adapters that one batched product serves.

    Args:
        start, stop: the first row, and the row after the last.
        adapters: each has equally many of the rows.
        kept: which inputs are not dropped, bool [rows, len, in]; none where nothing is.
    """

    start: int
    stop: int
    adapters: tuple[LowRank, ...]
    kept: Tensor | None = None

    @property
    def scalings(self) -> list[float]:
        """Of each adapter; that of dropout is in it, so that a mask is of zeros and ones."""
        return [a.scaling if self.kept is None else a.scaling / (1 - a.dropout) for a in self.adapters]

    def share(self, x: Tensor) -> Tensor:
        """Its rows, [adapters, tokens of each, features]."""
        return x[self.start : self.stop].reshape(len(self.adapters), -1, x.shape[-1])

    def drop(self, x: Tensor) -> Tensor:
        """[adapters, tokens, in] → the same, 0 where it is dropped."""
        if self.kept is None:
            return x
        # As bytes: on a CPU a product with bool takes thirty times as long.
        return x * self.kept.view(torch.uint8).to(x.dtype).view_as(x)

    def stacked(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A [adapters, r, in] and scaled B [adapters, out, r].

        The smaller ranks are padded with zeros in both, so that the padding adds nothing and its
        gradients are zero.
        """
        r = max(adapter.r for adapter in self.adapters)
        # A padding by nothing would copy all the same.
        A = [a.A if a.r == r else F.pad(a.A, (0, 0, 0, r - a.r)) for a in self.adapters]
        B = [a.B * scaling for a, scaling in zip(self.adapters, self.scalings, strict=True)]
        B = [own if own.shape[1] == r else F.pad(own, (0, r - own.shape[1])) for own in B]
        return torch.stack(A).to(dtype), torch.stack(B).to(dtype)


class _AddLowRanks(torch.autograd.Function):
    """y + scaling · B A dropout(x) in the rows of each group; see the head of this file."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, groups: Sequence[Group], *weights: Tensor) -> Tensor:
        out = y.clone(memory_format=torch.contiguous_format)
        lows = []
        for group in groups:
            A, B = group.stacked(x.dtype)
            low = torch.bmm(group.drop(group.share(x)), A.mT)
            out[group.start : group.stop].view(len(group.adapters), -1, y.shape[-1]).baddbmm_(low, B.mT)
            lows.append(low)
        # Masks too are saved as tensors, so that activation checkpointing can let them go.
        ctx.groups = [replace(group, kept=None) for group in groups]
        ctx.save_for_backward(x, *lows, *(group.kept for group in groups), *weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        num = len(ctx.groups)
        lows, masks = saved[:num], saved[num : 2 * num]
        groups = [replace(group, kept=kept) for group, kept in zip(ctx.groups, masks, strict=True)]
        into_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        into_weights: list[Tensor] = []
        for group, low in zip(groups, lows, strict=True):
            A, B = group.stacked(x.dtype)
            own, upstream_own = group.share(x), group.share(upstream)
            upstream_low = torch.bmm(upstream_own, B)
            into_A = torch.bmm(upstream_low.mT, group.drop(own))
            into_B = torch.bmm(low.mT, upstream_own).mT
            for number, (adapter, scaling) in enumerate(zip(group.adapters, group.scalings, strict=True)):
                into_weights.append(into_A[number, : adapter.r].to(adapter.A.dtype))
                into_weights.append(into_B[number, :, : adapter.r].to(adapter.B.dtype) * scaling)
            if into_x is not None:
                through = group.drop(torch.bmm(upstream_low, A))
                into_x[group.start : group.stop] = through.view_as(into_x[group.start : group.stop])
        return into_x, upstream, None, *into_weights


def add_low_ranks(x: Tensor, y: Tensor, groups: Sequence[Group]) -> Tensor:
    """What adapters add to a linear's output, in the rows that are theirs.

    Args:
        x: the linear's input, [rows, len, in].
        y: its output, [rows, len, out].
        groups: of disjoint rows; the other rows stay as they are.
    """
    weights = [w for group in groups for adapter in group.adapters for w in (adapter.A, adapter.B)]
    return _AddLowRanks.apply(x, y, groups, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Share(NamedTuple):
    """Rows of a batch that one adapter owns."""

    slot: str
    adapter: LowRank
    start: int
    stop: int


class BankLinear(nn.Module):
    """Stands where a linear stood: the linear, plus each row's own adapter.

    Outside of `bank.rows(...)`, and for rows of the base, it is the linear it wraps.

    Args:
        base: the frozen linear; it owns its weights, this module owns none.
        name: its path in the model; the random numbers of its adapters are functions of it.
        side: whether its input has the source's tokens or the target's.
        ambient: the bank's, which says whose rows a pass has.
    """

    def __init__(self, base: nn.Module, name: str, side: Side, ambient: Ambient) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.side = side
        self.ambient = ambient
        self.slots: dict[str, LowRank] = {}

    @property
    def weight(self) -> Tensor:
        """The base's; transformers' T5 looks at the dtype of `wo.weight`."""
        return self.base.weight  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """[rows, len, in] → [rows, len, out]."""
        return self.update(x, self.base(x))

    def update(self, x: Tensor, y: Tensor) -> Tensor:
        """Add to the base's output what each row's adapter says.

        Args:
            x: the base's input, [rows, len, in].
            y: the base's output, [rows, len, out].
        """
        rows = self.ambient.rows
        if rows is None or not self.slots:
            return y
        if isinstance(rows, IndexedRows):
            return self._update_indexed(x, y, rows)
        shares = [
            _Share(slot, self.slots[slot], start, stop)
            for slot, start, stop in rows.spans(x.shape[0], self.name)
            if slot is not None and slot in self.slots
        ]
        groups = [self._group(x, alike, rows.draws) for alike in _alike(shares)]
        return add_low_ranks(x, y, groups) if groups else y

    def _group(self, x: Tensor, shares: Sequence[_Share], draws: Draws | None) -> Group:
        adapters = tuple(share.adapter for share in shares)
        drops = any(adapter.dropout > 0 for adapter in adapters)
        kept = self._kept(x, shares, draws) if draws is not None and drops else None
        return Group(shares[0].start, shares[-1].stop, adapters, kept)

    def _kept(self, x: Tensor, shares: Sequence[_Share], draws: Draws) -> Tensor:
        """Which inputs are not dropped, bool [rows of the shares, len, in]; each adapter draws its own."""
        masks = []
        for slot, adapter, start, stop in shares:
            shape = torch.Size((stop - start, *x.shape[1:]))
            if adapter.dropout:
                masks.append(draws.kept(slot, self.name, self.side, adapter.dropout, shape, x.device))
            else:
                masks.append(x.new_ones(shape, dtype=torch.bool))
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _update_indexed(self, x: Tensor, y: Tensor, rows: IndexedRows) -> Tensor:
        for slot, index in rows.indices(x.shape[0], self.name, x.device):
            if slot in self.slots:
                own = Group(0, len(index), (self.slots[slot],))
                y = y.index_copy(0, index, add_low_ranks(x[index], y[index], [own]))
        return y


def _alike(shares: Sequence[_Share]) -> list[list[_Share]]:
    """In groups: neighbours of the same size whose ranks are near."""
    groups: list[list[_Share]] = []
    for share in shares:
        if groups and _is_alike(groups[-1], share):
            groups[-1].append(share)
        else:
            groups.append([share])
    return groups


def _is_alike(group: Sequence[_Share], share: _Share) -> bool:
    ranks = [other.adapter.r for other in (*group, share)]
    is_next = share.start == group[-1].stop
    is_as_large = share.stop - share.start == group[0].stop - group[0].start
    return is_next and is_as_large and max(ranks) <= NEAR_RANKS * min(ranks)

"""Adapters of equal rank and targets as one group: for each linear, one tensor of all A and one of all B."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.updates.low_rank import LowRank
from loraloom.bank.updates.update import Update


class GroupPart(NamedTuple):
    """What a group of adapters has in one linear, as views of the group's tensors.

    Args:
        A: [adapters, r, in], in the base's dtype, multiplied by √s (see `AdapterGroup`).
        B: [adapters, out, r], in the same dtype and with the same factor.
        into_A, into_B: gradients of A and B, of the same shapes, float32.
    """

    A: Tensor
    B: Tensor
    into_A: Tensor  # noqa: N815
    into_B: Tensor  # noqa: N815


class AdapterGroup:
    """Adapters of equal rank and targets: their weights in the base's dtype, and the gradients of a pass.

    The weights are copied at the beginning of each pass; at its end, the gradients are added to those of the
    adapters' parameters. An update is s · B A d(x), where d is dropout without its factor 1 / (1 - p), and s
    is the scaling times that factor. The copies are √s · A and √s · B, so that no product needs to apply s,
    and the gradient of a parameter is √s times that of its copy. An adapter whose parameters are contiguous
    in memory (as `training/optimizer.py` arranges them) is copied with one call.

    Args:
        bank: the bank that has the adapters.
        slots: the adapters.
        dtype: dtype of the base.
    """

    def __init__(self, bank: AdapterBank, slots: Sequence[str], dtype: torch.dtype) -> None:
        parts = [bank.parts(slot) for slot in slots]
        self.slots = tuple(slots)
        self._parameters = [bank.parameters(slot) for slot in slots]
        first = self._parameters[0]
        shape, device = (len(slots), sum(p.numel() for p in first)), first[0].device
        self._weights = torch.empty(shape, dtype=dtype, device=device)
        self._gradients = torch.zeros(shape, dtype=torch.float32, device=device)
        ends = list(accumulate((p.numel() for p in first), initial=0))
        places = [slice(*pair) for pair in pairwise(ends)]
        weights, gradients = (
            [flat[:, place].unflatten(1, p.shape) for place, p in zip(places, first, strict=True)]
            for flat in (self._weights, self._gradients)
        )
        self._rows = list(zip(*weights, strict=True))  # for each adapter, its views
        self._gradient_rows = list(zip(*gradients, strict=True))
        self.parts = {
            name: GroupPart(weights[2 * i], weights[2 * i + 1], gradients[2 * i], gradients[2 * i + 1])
            for i, name in enumerate(parts[0])
        }
        adapters = [_low_rank(part[next(iter(part))]) for part in parts]
        self.dropouts = [adapter.dropout for adapter in adapters]
        self._roots = [(adapter.scaling / (1 - adapter.dropout)) ** 0.5 for adapter in adapters]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the adapters' current weights into the group."""
        for number, (parameters, root) in enumerate(zip(self._parameters, self._roots, strict=True)):
            if (flat := run_of(parameters)) is not None:
                torch.mul(flat, root, out=self._weights[number])
            else:
                torch._foreach_copy_(list(self._rows[number]), [p.detach() * root for p in parameters])

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the gradients of the pass to the gradients of the adapters' parameters."""
        for number, (parameters, root) in enumerate(zip(self._parameters, self._roots, strict=True)):
            if any(p.grad is None for p in parameters):
                for parameter in parameters:
                    parameter.grad = torch.zeros_like(parameter)
            into = [p.grad for p in parameters if p.grad is not None]
            if (flat := run_of(into)) is not None:
                flat.add_(self._gradients[number], alpha=root)
            else:
                torch._foreach_add_(into, list(self._gradient_rows[number]), alpha=root)


def run_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """Return one flat view of tensors that are adjacent in one storage; None if they are not."""
    storage, dtype = tensors[0].untyped_storage(), tensors[0].dtype
    start = end = tensors[0].storage_offset()
    for tensor in tensors:
        is_next = tensor.storage_offset() == end and tensor.is_contiguous() and tensor.dtype == dtype
        if not is_next or tensor.untyped_storage().data_ptr() != storage.data_ptr():
            return None
        end += tensor.numel()
    return torch.as_strided(tensors[0].detach(), (end - start,), (1,), start)


def _low_rank(part: Update) -> LowRank:
    assert isinstance(part, LowRank)
    return part


def is_alike(bank: AdapterBank, slot: str, other: str) -> bool:
    """Return whether two adapters fit in one group."""
    one, two = bank.parts(slot), bank.parts(other)
    return one.keys() == two.keys() and all(_low_rank(one[name]).r == _low_rank(two[name]).r for name in one)

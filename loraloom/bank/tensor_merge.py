"""Merging an adapter one tensor at a time: the base is unchanged, and memory holds one merged tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import (
    WEIGHTS_TOGETHER,
    check_mergeable,
    check_sum,
    random_signs,
    squared_rounding,
    times,
)
from loraloom.bank.token_rows import TokenRows
from loraloom.bank.updates.update import Update
from loraloom.base.targets import Target
from loraloom.errors import ModelError
from loraloom.text.message import Message


class TensorMerge:
    """The tensors of a base merged with an adapter, each requested once, in any order.

    Args:
        bank: the bank that the adapter is attached to, and from which it is removed.
        slot: the adapter.

    Attributes:
        num_linears: number of linears that the adapter changes.
        largest_error: the largest error that `check_sum` returned for a linear so far.

    Raises:
        ModelError: the adapter cannot be merged.
    """

    def __init__(self, bank: AdapterBank, slot: str) -> None:
        check_mergeable(bank, slot)
        parts = bank.parts(slot)
        targets = [target for target in bank.available if target.name in parts]
        self._tables = bank.beside.tables
        rows, norms = self._tables.rows.get(slot), bank.beside.norms.of(slot)
        bank.drop(slot)
        self._linears: dict[int, tuple[Target, Update]] = {}
        self._added: dict[int, Tensor] = {}
        self._replaced: dict[int, Tensor] = {}
        self._rows: dict[int, TokenRows] = {} if rows is None else {self._tables.weight.data_ptr(): rows}
        for target in targets:
            part, bias = parts[target.name], target.linear.bias
            self._linears[target.linear.dense().data_ptr()] = target, part
            if (more := part.delta_bias()) is not None:
                assert bias is not None, "`check_mergeable` has refused it"
                self._added[bias.data_ptr()] = more
        for path, norm in norms.items():
            for end, vector in bank.beside.norms.modules[path].named_parameters():
                self._replaced[vector.data_ptr()] = norm.parameters[end].detach()
        self.num_linears, self.largest_error = len(targets), 0.0
        self._is_waiting = {*self._linears, *self._added, *self._replaced, *self._rows}
        self._square = sum(
            norm.delta_norms(bank.beside.norms.modules[path])[0] ** 2 for path, norm in norms.items()
        )
        self._rounding = 0.0
        if len(self._linears) < self.num_linears:
            raise ModelError(
                Message(
                    "two adapted linears of this base share one weight, so the base cannot be merged "
                    "shard by shard"
                ),
                where=targets[0].name,
                fix=Message("Merge it in memory with --whole-base, on a machine that has enough memory."),
            )

    @property
    def rounding_beside_update(self) -> float:
        """‖rounding‖ / ‖ΔW‖ of linears, norms and trained rows so far, as in `round_weights`."""
        norm: float = self._square**0.5
        return self._rounding**0.5 / norm if norm else 0.0

    @property
    def num_waiting(self) -> int:
        """The number of tensors that the adapter changes and that have not been requested yet."""
        return len(self._is_waiting)

    @torch.no_grad()
    def pieces(self, tensor: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield a tensor of the merged base in one-dimensional pieces, rounded to a dtype after merging.

        Args:
            tensor: a tensor of the base's model; one without floating-point values is yielded unchanged.
            dtype: the dtype to round to.

        Raises:
            ModelError: a merged linear is not W + ΔW.
        """
        place = tensor.data_ptr()
        self._is_waiting.discard(place)
        if place in self._linears:
            yield from self._rounded(self._sum(*self._linears[place]), dtype)
        elif place in self._replaced:
            yield from self._rounded(self._replaced[place], dtype)
        elif place in self._added:
            yield (tensor.float() + self._added[place]).to(dtype).view(-1)
        elif place in self._rows:
            yield from self._with_rows(tensor, self._rows[place], dtype)
        else:
            own = dtype if tensor.is_floating_point() else tensor.dtype
            yield from (piece.to(own) for piece in tensor.reshape(-1).split(WEIGHTS_TOGETHER))

    def _sum(self, target: Target, part: Update) -> Tensor:
        """Compute W + ΔW, float32 [out, in], and check it."""
        linear, probes = target.linear, random_signs(target.linear)
        wanted = times(linear.dense(), probes) + part.delta_times(linear, probes)
        merged = part.delta(linear)
        self._square += float(merged.norm()) ** 2
        merged += linear.dense()
        self.largest_error = max(self.largest_error, check_sum(target.name, merged, part, probes, wanted))
        return merged

    def _rounded(self, merged: Tensor, dtype: torch.dtype) -> Iterator[Tensor]:
        for piece in merged.reshape(-1).split(WEIGHTS_TOGETHER):
            self._rounding += squared_rounding(piece, dtype)
            yield piece.to(dtype)

    def _with_rows(self, table: Tensor, trained: TokenRows, dtype: torch.dtype) -> Iterator[Tensor]:
        """Yield the embedding table, piece by piece, with trained rows in place of the base's."""
        self._square += trained.delta_norms(table)[0] ** 2
        num_rows = max(1, WEIGHTS_TOGETHER // table.shape[1])
        for start in range(0, len(table), num_rows):
            block = table[start : start + num_rows].to(torch.float32, copy=True)
            inside = (trained.token_ids >= start) & (trained.token_ids < start + num_rows)
            rows = trained.rows.detach()[inside]
            self._rounding += squared_rounding(rows, dtype)
            block[trained.token_ids[inside] - start] = rows
            yield block.to(dtype).view(-1)


def names_by_place(tensors: Mapping[str, Tensor]) -> dict[int, list[str]]:
    """Return the names of each tensor by its address in memory; a shared tensor has several."""
    found: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        found.setdefault(tensor.data_ptr(), []).append(name)
    return found

"""What an evaluation allocates beside the base, counted tensor by tensor, is what the plan says it does."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.data.encoding import EncodedSet
from loraloom.data.row_packing import arrange
from loraloom.evaluate.loss import row_losses
from loraloom.forecast.footprint import Counter, phases
from loraloom.recipe import GenerationSettings
from tests.parity.rig import experiment


class Allocations(TorchDispatchMode):
    """The bytes of all tensors that were made within it, at their most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage())._cdata:
                self._count(storage)
        return made

    def _count(self, storage: Any) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._now += num_bytes
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._end, key, num_bytes)

    def _end(self, key: int, num_bytes: int) -> None:
        self._alive.discard(key)
        self._now -= num_bytes


def measured(base: Base, rows: EncodedSet) -> int:
    with Allocations() as found:
        row_losses(AdapterBank(base), [None], rows, batch_size=len(rows))
    return found.peak


def predicted(base: Base, rows: EncodedSet) -> int:
    own = experiment("own", per_device_eval_batch_size=len(rows))
    counter = Counter(AdapterBank(base), rows)
    found = phases(counter, [own], [], rows, GenerationSettings(), pass_tokens=512)
    return next(phase for phase in found if phase.name == "evaluation").parts["at work"]


def uneven_rows() -> EncodedSet:
    """Rows of which no two fit beside each other in one as wide as the longest, but two in a wider one."""
    lengths = [60, *[45] * 12]
    return EncodedSet([[5] * (n - 1) + [1] for n in lengths], [[5] * (n - 1) + [1] for n in lengths])


@pytest.mark.parametrize("family", ["mt5", "bart", "t5gemma"])
def test_attention_of_wide_rows_is_counted_in_an_evaluation(family: str, tiny: Callable[[str], Path]) -> None:
    base, rows = load_base(str(tiny(family)), dtype="float32", device="cpu"), uneven_rows()
    _, width = arrange([list(rows)], packing=True)
    assert width[1] > 1.2 * max(len(row.labels) for row in rows)
    assert measured(base, rows) / 1.25 <= predicted(base, rows) <= 1.5 * measured(base, rows)

"""The rows of a batch that each adapter owns, for modules that compute each adapter's rows separately."""

from __future__ import annotations

import torch
from torch import Tensor

from loraloom.bank.indexed_rows import IndexedRows
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows


def owned_rows(base: Base, num_rows: int, module: str) -> list[tuple[str, slice | Tensor]]:
    """Return the adapters of the open pass and their rows; an empty list if no pass is open.

    Args:
        base: the base, with the adapters attached.
        num_rows: number of rows of the batch.
        module: name of the module that computes the batch, for messages.

    Returns:
        Each adapter with its rows: slices, in ascending order, or row numbers, int64 [n], in any order.
    """
    running = base.current_pass.get()
    if running is None:
        return []
    if isinstance(running.rows, IndexedRows):
        index, spans = running.rows.spans(num_rows, module)
        places = torch.tensor(index, dtype=torch.int64, device=base.device)
        return [(slot, places[start:stop]) for slot, start, stop in spans]
    assert isinstance(running.rows, Rows)
    owners = running.rows.spans(num_rows, module)
    return [(slot, slice(start, stop)) for slot, start, stop in owners if slot is not None and stop > start]

"""Learned positions that restart at each example of a packed row.

A stack with a table of positions numbers the tokens of a row from 0 and accepts no other numbers. During a
pass that states each token's position in its own example, the table uses those positions instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

# The positions of the pass on this thread; a pass on another thread has its own. The table is read before
# the first layer, so layers that autograd recomputes on another thread do not need them.
_POSITIONS: ContextVar[Tensor | None] = ContextVar("positions", default=None)


def restart_positions(table: nn.Embedding) -> None:
    """Let a table of positions use those of `at_positions`; its weights and name are unchanged.

    Args:
        table: a table with an `offset`, the row of position 0.
    """
    table.register_forward_hook(_answer)


def _answer(table: Any, args: Any, usual: Tensor) -> Tensor:
    positions = _POSITIONS.get()
    return usual if positions is None else F.embedding(positions + table.offset, table.weight)


@contextmanager
def at_positions(positions: Tensor | None) -> Iterator[None]:
    """Use these positions, int64 [rows, len], during a `with` block; None for the usual ones."""
    token = _POSITIONS.set(positions)
    try:
        yield
    finally:
        _POSITIONS.reset(token)

"""Absolute positions that restart at each example of a packed row.

A stack with a position table numbers the tokens of a row from 0 and accepts no other positions. During a pass
that gives each token's position within its example, the table uses those positions instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The positions of the pass on this thread; a pass on another thread has its own. The table is read before
# the first layer, so layers that autograd recomputes on another thread do not need them.
_POSITIONS: ContextVar[Tensor | None] = ContextVar("positions", default=None)


def restart_positions(table: nn.Embedding) -> None:
    """Make a position table use the positions that `at_positions` sets; its weights and name are unchanged.

    Args:
        table: the position table; position 0 is in the row `table.offset`, or in row 0 without `offset`.
    """
    table.register_forward_pre_hook(_ask_for_one, with_kwargs=True)
    table.register_forward_hook(_answer)


def _ask_for_one(
    table: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Reduce the table's own look-up to one position, since a packed row may be longer than the table.

    `_answer` replaces the result.
    """
    if _POSITIONS.get() is None:
        return None
    row = args[0]  # token ids, or their shape for Marian and Pegasus
    return (row[:1, :1] if isinstance(row, Tensor) else torch.Size((1, 1)),), {}


def _answer(table: Any, args: Any, usual: Tensor) -> Tensor:
    positions = _POSITIONS.get()
    if positions is None:
        return usual
    return F.embedding(positions + getattr(table, "offset", 0), table.weight)


def restart_sinusoids(table: nn.Module) -> None:
    """Make M2M100's position table use the positions that `at_positions` sets, without counting padding.

    Args:
        table: a module with `weights` and `padding_idx`; it grows to the longest row that it has seen.
    """
    table.register_forward_hook(_answer_skipping_padding)


def _answer_skipping_padding(table: Any, args: Any, usual: Tensor) -> Tensor:
    positions = _POSITIONS.get()
    if positions is None:
        return usual
    is_padding = args[0] == table.padding_idx
    before = is_padding.cumsum(1) - is_padding.long()
    # In a cached step the earlier tokens are not in the row, and none of them is padding.
    first = (torch.arange(positions.shape[1], device=positions.device) - positions).clamp(min=0)
    own = positions - (before - before.gather(1, first))
    return F.embedding(own.masked_fill(is_padding, -1) + table.padding_idx + 1, table.weights)


@contextmanager
def at_positions(positions: Tensor | None) -> Iterator[None]:
    """Use these positions, int64 [rows, len], during a `with` block; None for the table's own."""
    token = _POSITIONS.set(positions)
    try:
        yield
    finally:
        _POSITIONS.reset(token)

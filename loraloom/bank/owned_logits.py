"""The logits of a batch that adapters share, some of which have trained rows in the output head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from loraloom.bank.objective import output_head
from loraloom.bank.token_head import TiedHead
from loraloom.base.loading import Base
from loraloom.kernels.output_head import all_logits


def owned_logits(base: Base, states: Tensor, slots: Sequence[str | None]) -> Tensor:
    """Compute all logits, float32 [rows, vocabulary].

    Args:
        base: the base, with the adapters attached.
        states: the decoder's states, [rows, d].
        slots: the adapter of each row; None for the base.
    """
    head = output_head(base)
    logits = all_logits(head, states)
    return base.head.own_logits(head, states, logits, slots) if isinstance(base.head, TiedHead) else logits

"""eval_loss: total negative log-likelihood over total label tokens, of several adapters in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import part_losses
from loraloom.bank.rows import Rows, shares_of
from loraloom.data.batches import Part, collate
from loraloom.data.encoding import EncodedSet


@torch.no_grad()
def eval_losses(
    bank: AdapterBank,
    slots: Sequence[str | None],
    examples: EncodedSet,
    *,
    batch_size: int,
    packing: bool = True,
) -> dict[str | None, float]:
    """The eval_loss of each adapter, `None` being the base.

    A mean of batch means would weigh a token by the company it is in; this does not.

    Args:
        bank: with the adapters attached.
        slots: whose loss; all answer for the same rows.
        examples: the rows, at least one.
        batch_size: rows a batch has for each adapter.
    """
    totals = np.zeros(len(slots))
    # Rows of like length together: less padding; the sum is over all rows, so the order is free.
    order = np.argsort(examples.target_lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = [examples[int(index)] for index in order[start : start + batch_size]]
        batch = collate(
            [Part(slot, rows) for slot in slots],
            pad_token_id=bank.base.pad_token_id,
            start_token_id=bank.base.start_token_id,
            packing=packing,
        ).to(bank.base.device)
        with bank.rows(Rows(shares_of(batch))):
            totals += part_losses(bank.base, batch).double().cpu().numpy()
    num_labels = int(examples.target_lengths.sum())
    return {slot: float(total / num_labels) for slot, total in zip(slots, totals, strict=True)}

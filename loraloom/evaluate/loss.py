"""The eval_loss of several adapters: total negative log-likelihood over total label tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import example_losses
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.encoding import EncodedSet
from loraloom.data.ownership import Rows
from loraloom.distributed.ranks import ONE_PROCESS, Ranks


@torch.no_grad()
def row_losses(
    bank: AdapterBank,
    slots: Sequence[str | None],
    examples: EncodedSet,
    *,
    batch_size: int,
    packing: bool = True,
    on_rows: Callable[[int], None] = lambda done: None,
    ranks: Ranks = ONE_PROCESS,
) -> npt.NDArray[np.float64]:
    """Compute the summed loss of each row under each adapter, float64 [slots, rows].

    Args:
        bank: the bank, with the adapters attached.
        slots: adapters whose loss is computed, `None` for the base; all are evaluated on the same rows.
        examples: rows, at least one.
        batch_size: number of rows per batch for each adapter.
        packing: whether a row of the batch may contain several examples.
        on_rows: called with the number of rows that are finished so far.
        ranks: the processes that share the batches; rows that another rank computes have a loss of 0.
    """
    losses = np.zeros((len(slots), len(examples)))
    # Rows of similar length together, so that few tokens are padding.
    order = np.argsort(examples.target_lengths, kind="stable")
    for number, start in enumerate(range(0, len(order), batch_size)):
        if not ranks.owns(number):
            continue
        chosen = order[start : start + batch_size]
        rows = [examples[int(index)] for index in chosen]
        batch = collate(
            [SlotExamples(slot, rows) for slot in slots],
            bank.base.layout,
            packing=packing,
        ).to(bank.base.device)
        with bank.rows(Rows(batch.slots, batch.num_rows)):
            for slot, own in enumerate(example_losses(bank.base, batch)):
                losses[slot, chosen] = own.double().cpu().numpy()
        on_rows(start + len(chosen))
    return losses


def eval_losses(
    bank: AdapterBank,
    slots: Sequence[str | None],
    examples: EncodedSet,
    *,
    batch_size: int,
    packing: bool = True,
    on_rows: Callable[[int], None] = lambda done: None,
) -> dict[str | None, float]:
    """Compute the eval_loss of each adapter.

    Every token has the same weight; in a mean of batch means, its weight would depend on its batch.

    Args:
        bank, slots, examples, batch_size, packing, on_rows: as in `row_losses`.
    """
    losses = row_losses(bank, slots, examples, batch_size=batch_size, packing=packing, on_rows=on_rows)
    num_labels = int(examples.target_lengths.sum())
    return {slot: float(total / num_labels) for slot, total in zip(slots, losses.sum(1), strict=True)}

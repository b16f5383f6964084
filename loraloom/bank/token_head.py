"""An output head that is tied to the embeddings, with each adapter's trained rows in place of the base's.

The losses of an adapter with trained rows are computed in two parts: over the frozen head, where a bias
pushes the logits of the trained tokens far below all others, and over the adapter's own rows. The two sums
of exponentials are then added:

    log Σ exp = logaddexp( log Σ exp over other tokens, log Σ exp over trained tokens )

So the sweep over the vocabulary (`kernels/cross_entropy.py`) needs only the frozen head, and the logits of
the few trained tokens are computed separately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from loraloom.bank.token_rows import TokenRows, WrappedTable
from loraloom.data.batches import Batch
from loraloom.kernels.output_head import OutputHead

# (States, labels, head, label smoothing) → losses, float32 [n].
TokenLosses = Callable[[Tensor, Tensor, OutputHead, Tensor | None], Tensor]
# Finite, because a tile of nothing else would have no largest logit.
FAR_BELOW = -1e30
# A label for which nothing is subtracted from log Σ exp.
NO_LABEL = -1


class TiedHead(WrappedTable):
    """A replacement for a tied head, which computes logits with the trained rows of each adapter."""

    @property
    def bias(self) -> Tensor | None:
        """The bias of the frozen head; None if the head has no bias."""
        return self.base.bias  # type: ignore[return-value]

    @property
    def rows(self) -> dict[str, TokenRows]:
        """The trained rows of each adapter that has any."""
        return self.tables.rows

    def forward(self, states: Tensor) -> Tensor:
        """Compute logits [rows, len, vocabulary] from scaled states [rows, len, d]."""
        logits: Tensor = self.base(states)
        for own, places in self.tables.owned(len(states), self.name):
            logits = logits.clone()
            found = (states[places].float() @ own.rows.T).to(logits.dtype)
            logits[places] = logits[places].index_copy(-1, own.token_ids, found)
        return logits

    def own_logits(
        self, head: OutputHead, states: Tensor, logits: Tensor, slots: Sequence[str | None]
    ) -> Tensor:
        """Overwrite trained tokens' logits in adapters' rows; return all logits, [rows, vocabulary]."""
        for slot in sorted({slot for slot in slots if slot in self.rows and slot is not None}):
            own = self.rows[slot]
            numbers = [row for row, each in enumerate(slots) if each == slot]
            places = torch.tensor(numbers, device=logits.device)
            found = (states[places] * head.scale).float() @ own.rows.T + _bias(head, own)
            logits[places[:, None], own.token_ids] = found
        return logits

    def losses_of(self, batch: Batch, frozen: TokenLosses) -> TokenLosses:
        """Return a replacement for `frozen` that computes a batch's losses with adapters' trained rows.

        Args:
            batch: the batch.
            frozen: the function that computes losses with a frozen head.
        """
        return partial(self._token_losses, frozen, tuple(zip(batch.slots, batch.num_labels, strict=True)))

    def _token_losses(
        self,
        frozen: TokenLosses,
        owners: Sequence[tuple[str | None, int]],
        states: Tensor,
        labels: Tensor,
        head: OutputHead,
        smoothing: Tensor | None,
    ) -> Tensor:
        found, start = [], 0
        for slot, num in owners:
            block = slice(start, start + num)
            start += num
            epsilon = None if smoothing is None else smoothing[block]
            own = None if slot is None else self.rows.get(slot)
            if own is None:
                found.append(frozen(states[block], labels[block], head, epsilon))
            else:
                found.append(_losses(frozen, states[block], labels[block], head, epsilon, own))
        return torch.cat(found)


def _losses(
    frozen: TokenLosses,
    states: Tensor,
    labels: Tensor,
    head: OutputHead,
    smoothing: Tensor | None,
    own: TokenRows,
) -> Tensor:
    """Compute the losses of one adapter with trained rows, float32 [n]."""
    ids, vocabulary = own.token_ids, len(head.weight)
    bias = states.new_zeros(vocabulary, dtype=torch.float32) if head.bias is None else head.bias.float()
    is_trained, at = own.find(labels)
    is_frozen, scaled = ~is_trained, (states * head.scale).float()
    of_labels = _rounded(scaled, head.weight[labels], states.dtype) + bias[labels]
    label_logit = torch.where(is_frozen, of_labels, 0.0)
    without = replace(head, bias=bias.index_fill(0, ids, FAR_BELOW))
    # The sweep subtracts the logit of a label that the frozen head has; it is added again.
    others = frozen(states, torch.where(is_frozen, labels, NO_LABEL), without, None) + label_logit
    logits = scaled @ own.rows.T + bias[ids]
    total = torch.logaddexp(others, logits.logsumexp(1))
    wanted = torch.where(is_trained, logits.gather(1, at[:, None])[:, 0], label_logit)
    if smoothing is not None:
        replaced = own.rows.sum(0) - head.weight[ids].sum(0, dtype=torch.float32)
        mean_row = (head.weight.sum(0, dtype=torch.float32) + replaced) / vocabulary
        wanted = torch.lerp(wanted, scaled @ mean_row + bias.mean(), smoothing)
    return total - wanted


def _rounded(states: Tensor, label_rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute logits of labels, float32 [n], rounded to a dtype as in the sweep over the vocabulary.

    The gradient ignores the rounding.
    """
    logits = (states * label_rows.float()).sum(1)
    return logits + (logits.to(dtype).float() - logits).detach()


def _bias(head: OutputHead, own: TokenRows) -> Tensor | float:
    return 0.0 if head.bias is None else head.bias[own.token_ids].float()

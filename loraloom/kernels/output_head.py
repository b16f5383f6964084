"""The frozen output head, in the form that products over the vocabulary need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OutputHead:
    """The frozen output head.

    Args:
        weight: [vocabulary, d].
        scale: factor that multiplies the hidden states before the head (d^-0.5 in T5 1.0).
        bias: [vocabulary], or None.
        softcap: c if logits become c · tanh(logits / c), or None.
    """

    weight: Tensor
    scale: float = 1.0
    bias: Tensor | None = None
    softcap: float | None = None


def all_logits(head: OutputHead, hidden: Tensor) -> Tensor:
    """Compute the logits of all tokens, float32 [rows, vocabulary], with the head's scale, bias and cap."""
    return finish_logits(head, hidden * head.scale @ head.weight.t(), None)


def finish_logits(head: OutputHead, products: Tensor, words: Tensor | None) -> Tensor:
    """Add the bias and apply the soft cap of a head, in float32.

    Args:
        head: head of the base.
        products: products of states and head, in the head's dtype.
        words: token id of each product, int64 of the same shape; None if they cover the whole vocabulary.
    """
    logits = products.float()
    if head.bias is not None:
        bias = head.bias.float()
        logits = logits + (bias if words is None else bias[words])
    return head.softcap * torch.tanh(logits / head.softcap) if head.softcap is not None else logits

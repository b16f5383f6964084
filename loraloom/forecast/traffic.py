"""Prediction of what ranks exchange in training: gradients, and weights of a base that they share."""

from __future__ import annotations

from torch import Tensor

from loraloom.base.loading import Base
from loraloom.base.sharding import local_part
from loraloom.forecast.footprint import Counter
from loraloom.run.documents.prediction import Traffic
from loraloom.training.setup import Setup

GRADIENT_BYTES = 4  # per weight of an adapter, in float32


def predict_traffic(setup: Setup, counter: Counter) -> Traffic | None:
    """Predict the bytes that a rank exchanges in a step; return None if there is one process.

    Args:
        setup: setup of the training, with an empty bank.
        counter: counter of the sizes of adapters.
    """
    if setup.ranks.size == 1:
        return None
    trained = {each.name: counter.num_trained(each) for each in setup.experiments}
    largest = max(sum(trained[name] for name in wave) for wave in setup.waves)
    return Traffic(setup.ranks.size, largest * GRADIENT_BYTES, _gathered_bytes(setup.bank.base))


def _gathered_bytes(base: Base) -> int:
    """Return the bytes of other ranks' weights that a rank receives in a forward and backward pass.

    Layers are gathered in the forward pass and again in the backward pass; embeddings, by the encoder and by
    the decoder. The head is gathered once, because the loss computes the gradient of the hidden states in the
    forward pass (`kernels/cross_entropy.py`).
    """
    if not base.is_sharded:
        return 0
    head = base.head.weight
    others = [p for p in base.model.parameters() if p is not head or base.head_is_tied]
    return _of_others(head) + 2 * sum(map(_of_others, others))


def _of_others(weight: Tensor) -> int:
    """Return how many bytes of a weight are stored on other ranks."""
    return weight.nbytes - local_part(weight).nbytes

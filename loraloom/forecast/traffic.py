"""Prediction of what the ranks of a training exchange: gradients, and weights of a base that they share."""

from __future__ import annotations

from loraloom.base.loading import Base
from loraloom.base.sharding import local_part
from loraloom.forecast.footprint import Counter
from loraloom.run.documents.prediction import Traffic
from loraloom.training.setup import Setup

GRADIENT_BYTES = 4  # of adapters, in float32


def predict_traffic(setup: Setup, counter: Counter) -> Traffic | None:
    """Return what a rank exchanges in a step; None if there is one process.

    Args:
        setup: of the training, its bank empty.
        counter: knows the sizes of adapters.
    """
    if setup.ranks.size == 1:
        return None
    weights = {each.name: counter.num_weights(each) for each in setup.experiments}
    largest = max(sum(weights[name] for name in wave) for wave in setup.waves)
    return Traffic(setup.ranks.size, largest * GRADIENT_BYTES, _gathered_bytes(setup.bank.base))


def _gathered_bytes(base: Base) -> int:
    """Return the bytes of others' weights that a pass there and back brings.

    Layers are gathered twice. Embeddings and a head of its own are gathered once: nothing goes back through
    them, because the loss has the gradient of its input ready (`bank/objective.py`).
    """
    if not base.is_sharded:
        return 0
    weights = {name: p.nbytes - local_part(p).nbytes for name, p in base.model.named_parameters()}
    once = {id(base.head.weight), id(base.model.get_input_embeddings().weight)}
    named = dict(base.model.named_parameters())
    return sum(size if id(named[name]) in once else 2 * size for name, size in weights.items())

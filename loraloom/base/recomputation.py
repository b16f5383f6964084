"""Recomputation of activations in the backward pass, as part of the pass that first computed them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from loraloom.base.current_pass import recomputation_contexts

# transformers renamed this before version 6; 5.17 only has the old name.
_CHECKPOINTING = (
    "activation" if hasattr(PreTrainedModel, "activation_checkpointing_enable") else "gradient"
) + "_checkpointing"


def recompute_activations(model: PreTrainedModel, enabled: bool) -> None:
    """Switch the recomputation of each layer's activations in the backward pass on or off.

    Args:
        model: model of a loaded base.
        enabled: whether to recompute activations or to keep them; the recipe's `gradient_checkpointing`.
    """
    if enabled:
        settings = {"use_reentrant": False, "context_fn": recomputation_contexts}
        getattr(model, f"{_CHECKPOINTING}_enable")(settings)
        if hasattr(model, "_require_grads_hook"):
            # transformers makes embeddings require gradients, which only reentrant checkpoints need, and
            # leaves this on when recomputation ends: the backward pass would extend to them.
            model.disable_input_require_grads()
    elif recomputes_activations(model):
        getattr(model, f"{_CHECKPOINTING}_disable")()


def recomputes_activations(model: PreTrainedModel) -> bool:
    """Return whether each layer's activations are recomputed in the backward pass."""
    return bool(getattr(model, f"is_{_CHECKPOINTING}"))


@contextmanager
def keeping_activations(model: PreTrainedModel) -> Iterator[None]:
    """Keep activations during a `with` block, even if the model is set to recompute them."""
    enabled = recomputes_activations(model)
    recompute_activations(model, False)
    try:
        yield
    finally:
        recompute_activations(model, enabled)

"""Whether each layer's activations are recomputed in the backward pass, and in whose pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import PreTrainedModel

from loraloom.base.current_pass import recomputation_contexts

# transformers renamed it on the way to version 6; 5.17 knows the old name only.
_CHECKPOINTING = (
    "activation" if hasattr(PreTrainedModel, "activation_checkpointing_enable") else "gradient"
) + "_checkpointing"


def recompute_activations(model: PreTrainedModel, enabled: bool) -> None:
    """Recompute each layer's activations in the backward pass, or keep them.

    Args:
        model: of a loaded base.
        enabled: the recipe's `gradient_checkpointing`.
    """
    if enabled:
        settings = {"use_reentrant": False, "context_fn": recomputation_contexts}
        getattr(model, f"{_CHECKPOINTING}_enable")(settings)
    elif recomputes_activations(model):
        getattr(model, f"{_CHECKPOINTING}_disable")()


def recomputes_activations(model: PreTrainedModel) -> bool:
    """Whether each layer's activations are recomputed in the backward pass."""
    return bool(getattr(model, f"is_{_CHECKPOINTING}"))


@contextmanager
def keeping_activations(model: PreTrainedModel) -> Iterator[None]:
    """Keep activations for the time being, whatever is set."""
    enabled = recomputes_activations(model)
    recompute_activations(model, False)
    try:
        yield
    finally:
        recompute_activations(model, enabled)

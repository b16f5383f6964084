"""Freezing of a base, and the check that it computes the same states for the same rows in every pass.

Dropout modules are not all that makes a pass random: there are layers that are skipped at random
(`layerdrop`), dropout that is an argument of a function, and noise in a router. If one of them were left on,
an adapter's results would no longer depend on its own seed alone.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from loraloom.architectures.family import Family
from loraloom.errors import ModelError
from loraloom.text.message import Message

# An attribute of a module with one of these in its name is a probability or a scale of noise.
RANDOM = ("drop", "noise", "jitter")
NUM_TOKENS = 4


def freeze(model: PreTrainedModel, family: Family) -> None:
    """Turn off gradients and every source of randomness in the base.

    The base stays in train mode because transformers recomputes activations only in that mode; without
    randomness, train mode and eval mode compute the same.
    """
    model.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
            continue
        for name in family.random_attributes:
            if isinstance(getattr(module, name, None), float | int):
                setattr(module, name, 0.0)
    model.train()


def check_deterministic(model: PreTrainedModel, family: Family, tokenizer: Tokenizer, name: str) -> None:
    """Refuse a frozen model in which anything is random.

    Two passes may be equal by luck if a layer is seldom skipped, so every float attribute of a module
    with `drop`, `noise` or `jitter` in its name must be 0 as well. On a CPU, the second pass is omitted if
    the first one left the global generators of torch, Python and NumPy unchanged.

    Args:
        model: frozen, in train mode.
        family: its family.
        tokenizer: its tokenizer.
        name: its name in messages.

    Raises:
        ModelError: a module would still draw random numbers, or two passes differ.
    """
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            if isinstance(value, float) and value > 0 and any(word in key for word in RANDOM):
                raise _refusal(name, Message("{path}.{key} is {value}", path=path, key=key, value=value))
    before = _generators()
    first = _states(model, family, tokenizer)
    if model.device.type == "cpu" and _generators() == before:
        return
    second = _states(model, family, tokenizer)
    if not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
        raise _refusal(
            name, Message("two passes differ by {float:.3g}", float=float((first - second).abs().max()))
        )


def _generators() -> tuple[object, ...]:
    """Return the states of the global generators of torch, Python and NumPy."""
    numpys = np.random.get_state(legacy=False)
    words, position = numpys["state"]["key"].tobytes(), numpys["state"]["pos"]
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), words, position, numpys["gauss"]


@torch.no_grad()
def _states(model: PreTrainedModel, family: Family, tokenizer: Tokenizer) -> torch.Tensor:
    """Compute the decoder's hidden states for a few tokens."""
    ids = torch.full((1, NUM_TOKENS), tokenizer.eos_token_id, device=model.device)
    seen = torch.ones(1, 1, NUM_TOKENS, NUM_TOKENS, dtype=torch.bool, device=model.device)
    encoded = family.encode(model, ids, seen)
    return family.decode(model, ids, seen.tril(), encoded, seen)


def _refusal(name: str, found: str) -> ModelError:
    return ModelError(
        Message("the frozen base is not deterministic: it draws random numbers in train mode"),
        where=name,
        found=found,
        fix=Message("Please report this with the name of the model."),
    )

"""Fingerprints of the base and the vocabulary that an adapter belongs to."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from loraloom.base.frozen_linear import frozen_linear, is_linear
from loraloom.run.digests import digest_of_json

SAMPLES_PER_TENSOR = 4096


def fingerprint(model: PreTrainedModel) -> str:
    """Hash the name and shape of every weight, and a sample of its values, rounded to bfloat16.

    The model's config is not included. Rounding makes the hash the same for every dtype that the weights are
    loaded in; sampling makes it cheap.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(_weights(model).items()):
        flat = tensor.detach().reshape(-1)
        stride = max(1, flat.numel() // SAMPLES_PER_TENSOR)
        sample = flat[::stride].to(torch.bfloat16).cpu().contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return every weight by its name in the base's files; the weight of a linear is a plain matrix."""
    linears = {f"{name}.weight": module for name, module in model.named_modules() if is_linear(module)}
    return {
        name: frozen_linear(linears[name]).dense() if name in linears else tensor
        for name, tensor in model.state_dict().items()
    }


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """Hash the vocabulary: the text and the id of every token."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return digest_of_json(vocabulary)

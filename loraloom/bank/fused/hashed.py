"""Dropout whose mask is a hash, so that a kernel can recompute it instead of storing it.

A mask is a function of (the experiment's seed, its step, the micro-batch, the module's name, the token's
number among the adapter's own tokens, the feature). This gives the same guarantees as `data/ownership.py`,
without generators, and the same bits on every device. Two 32-bit words are derived from the seed of the pass
and two from the module's name; the finalizer of MurmurHash3 (Appleby, 2011) mixes them with the token's
number, and the result with that of the feature. Each hash gives 16 bits to each of two neighbouring features.

`kept` is the plain version that tests compare `product_kernels.py` with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from loraloom.data.ownership import Draws, seed_for

_WORD = 0xFFFFFFFF
TOKEN_1, TOKEN_2, FEATURE = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
MIX_1, MIX_2 = 0x85EBCA6B, 0xC2B2AE35
BITS = 16
ONE = 1 << BITS


def signed(word: int) -> int:
    """Return the int32 that has the same bits as a 32-bit word."""
    return word - 2**32 if word >= 2**31 else word


def pass_seed(draws: Draws, slot: str) -> tuple[int, int]:
    """Return the two 32-bit words that seed one adapter's dropout in one pass, as int32."""
    return _words(seed_for(draws.seeds[slot], "dropout", draws.steps[slot], draws.micro_batch))


@cache  # an entry for each linear of the model
def module_salt(name: str) -> tuple[int, int]:
    """Return the two 32-bit words that stand for a module's name in a hash, as int32."""
    return _words(seed_for(0, "module", name))


def _words(seed: int) -> tuple[int, int]:
    return signed(seed & _WORD), signed((seed >> 32) & _WORD)


def threshold(p: float) -> int:
    """Return the smallest 16-bit random number that keeps an element: p, rounded to units of 1/65,536."""
    return min(round(p * ONE), ONE - 1)


def _mix(h: Tensor) -> Tensor:
    h = h ^ (h >> 16)
    h = (h * MIX_1) & _WORD
    h = h ^ (h >> 13)
    h = (h * MIX_2) & _WORD
    return h ^ (h >> 16)


def kept(
    ordinals: Tensor, seeds: Tensor, salt: tuple[int, int], thresholds: Tensor, num_features: int
) -> Tensor:
    """Compute which inputs of a module are not dropped.

    Args:
        ordinals: integers [adapters, tokens], the number of each token among its adapter's own.
        seeds: int32 [adapters, 2], from `pass_seed`.
        salt: from `module_salt`.
        thresholds: int32 [adapters], from `threshold`.
        num_features: number of features of the module's input.

    Returns:
        bool [adapters, tokens, num_features].
    """
    token = ordinals.long()
    words = (seeds.long() & _WORD) ^ torch.tensor([word & _WORD for word in salt], device=seeds.device)
    first = _mix((token * TOKEN_1 + words[:, :1]) & _WORD)[..., None]
    second = _mix((token * TOKEN_2 + words[:, 1:]) & _WORD)[..., None]
    pair = torch.arange((num_features + 1) // 2, device=ordinals.device)
    h = (first + pair * FEATURE) & _WORD
    h = ((h ^ (h >> 16)) * MIX_1) & _WORD
    h = h ^ second
    h = ((h ^ (h >> 13)) * MIX_2) & _WORD
    h = h ^ (h >> 16)
    bits = torch.stack([h & 0xFFFF, h >> BITS], dim=-1).flatten(-2)[..., :num_features]
    return bits >= thresholds[:, None, None]


@dataclass(frozen=True)
class HashedDropout:
    """Everything that determines a module's dropout in one pass.

    Args:
        ordinals: integers [adapters, tokens].
        seeds: int32 [adapters, 2].
        thresholds: int32 [adapters].
        salt: the module's words, from `module_salt`.
    """

    ordinals: Tensor
    seeds: Tensor
    thresholds: Tensor
    salt: tuple[int, int]

    def __call__(self, x: Tensor) -> Tensor:
        """Set dropped elements to 0, [adapters, tokens, features] → the same shape."""
        mask = kept(self.ordinals, self.seeds, self.salt, self.thresholds, x.shape[-1])
        return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))

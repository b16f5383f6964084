"""Dropout by hashing: the share it drops, and that nothing it is a function of repeats another's mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from loraloom.bank.fused.hashed import kept, module_salt, threshold


def mask(p: float, *, seed: int = 1, module: str = "q", tokens: int = 300, features: int = 257) -> Tensor:
    ordinals = torch.arange(tokens, dtype=torch.int32)[None]
    seeds = torch.tensor([[seed, -seed]], dtype=torch.int32)
    thresholds = torch.tensor([threshold(p)], dtype=torch.int32)
    return kept(ordinals, seeds, module_salt(module), thresholds, features)[0]


@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p(p: float) -> None:
    own = mask(p).float()
    spread = (p * (1 - p) / own.numel()) ** 0.5
    assert abs(float(own.mean()) - (1 - p)) <= 5 * spread


def test_rows_and_columns_are_dropped_alike() -> None:
    own = mask(0.5, tokens=512, features=512).float()
    for dim in (0, 1):
        off = (own.mean(dim) - 0.5).abs().max() / (0.25 / 512) ** 0.5
        assert off < 5


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 2), (2, 3)])
def test_neighbours_are_independent(shift: tuple[int, int]) -> None:
    own = mask(0.5).float() - 0.5
    moved = own.roll(shift, (0, 1))
    assert abs(float((own * moved).sum())) < 5 * 0.25 * own.numel() ** 0.5


@pytest.mark.parametrize("other", [{"seed": 2}, {"module": "k"}])
def test_another_seed_or_module_drops_others(other: dict[str, int]) -> None:
    one, two = mask(0.5).float() - 0.5, mask(0.5, **other).float() - 0.5  # type: ignore[arg-type]
    assert abs(float((one * two).sum())) < 5 * 0.25 * one.numel() ** 0.5


def test_a_token_keeps_its_mask_wherever_it_lies() -> None:
    ordinals = torch.tensor([[4, 0, 2]], dtype=torch.int32)
    seeds = torch.tensor([[1, -1]], dtype=torch.int32)
    thresholds = torch.tensor([threshold(0.5)], dtype=torch.int32)
    moved = kept(ordinals, seeds, module_salt("q"), thresholds, 257)[0]
    assert torch.equal(moved, mask(0.5)[[4, 0, 2]])

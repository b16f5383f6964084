"""Attention of training passes equals transformers' SDPA, which is its oracle, in values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from loraloom.base import row_attention
from loraloom.base.loading import Base
from loraloom.base.row_attention import NAME, _attend, _RowAttention

ROWS, HEADS, QUERIES, KEYS, SIZE = 3, 2, 5, 7, 4


def states(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values as a layer makes them: transposed views."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(ROWS, length, HEADS, SIZE, generator=generator) for length in (QUERIES, KEYS, KEYS)]
    return [each.to(dtype).transpose(1, 2).requires_grad_() for each in made]


def causal() -> Tensor:
    """A mask in which every query sees a key."""
    mask = torch.ones(ROWS, 1, QUERIES, KEYS, dtype=torch.bool).tril(1)
    mask[1, :, :, 0] = False
    return mask


def outputs_and_gradients(attend: Any, mask: Tensor, **options: Any) -> list[Tensor]:
    own = states()
    out, _ = attend(nn.Identity(), *own, mask, **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * upstream).sum().backward()
    return [out.detach(), *(each.grad for each in own if each.grad is not None)]


@pytest.mark.parametrize("is_additive", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("scaling", [None, 1.0])
def test_it_equals_sdpa(is_additive: bool, has_bias: bool, scaling: float | None) -> None:
    mask = causal()
    if is_additive:
        mask = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    bias = torch.randn(1, HEADS, QUERIES, KEYS, generator=torch.Generator().manual_seed(2))
    options = {"scaling": scaling, "position_bias": bias if has_bias else None}
    own = outputs_and_gradients(_attend, mask, **options)
    for actual, expected in zip(
        own, outputs_and_gradients(sdpa_attention_forward, mask, **options), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("largest", [QUERIES * KEYS, 2 * QUERIES * KEYS, 4 * QUERIES * KEYS + 1])
def test_scores_in_parts_are_those_computed_at_once(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the number of rows of a pass, as packing and processes choose it, decides nothing."""
    mask = causal()
    bias = torch.randn(1, HEADS, QUERIES, KEYS, generator=torch.Generator().manual_seed(2))
    at_once = outputs_and_gradients(_attend, mask, position_bias=bias)
    monkeypatch.setattr(row_attention, "LARGEST", largest)
    in_parts = outputs_and_gradients(_attend, mask, position_bias=bias)
    for actual, expected in zip(in_parts, at_once, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)


def test_weights_of_large_scores_are_exact_in_the_backward_pass() -> None:
    """T5 does not divide its scores, and a row's sum that is kept as a logarithm loses digits by them."""
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(1, 2, 48, 16, generator=generator) * strength for strength in (8.0, 8.0, 1.0)]
    upstream = torch.randn(1, 2, 48, 16, generator=generator)

    def gradient_of_values(dtype: torch.dtype, attend: Any) -> Tensor:
        own = [each.to(dtype).clone().requires_grad_() for each in made]
        (attend(*own) * upstream.to(dtype)).sum().backward()
        return own[2].grad.double()  # type: ignore[union-attr]

    def plainly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return (query @ key.mT).softmax(-1) @ value

    def ours(query: Tensor, key: Tensor, value: Tensor) -> Any:
        mask = torch.zeros(1, 1, 48, 48)
        return _attend(nn.Identity(), query, key, value, mask, scaling=1.0)[0].transpose(1, 2)

    expected = gradient_of_values(torch.float64, plainly)
    found = gradient_of_values(torch.float32, ours)
    assert float((found - expected).norm()) <= 1.2e-6 * float(expected.norm())


@pytest.mark.parametrize("mask", [causal(), torch.zeros(ROWS, HEADS, QUERIES, KEYS)], ids=["bool", "float32"])
def test_a_sum_is_freed_with_its_mask(mask: Tensor) -> None:
    own, shape = mask.clone(), torch.Size((ROWS, HEADS, QUERIES, KEYS))
    before = len(row_attention._SUMS)
    row_attention._sum(own, None, shape, torch.float32)
    assert len(row_attention._SUMS) == before + 1
    del own
    assert len(row_attention._SUMS) == before


def test_layers_share_a_sum_until_the_bias_is_another() -> None:
    mask, bias = causal(), torch.randn(1, HEADS, QUERIES, KEYS)
    shape = torch.Size((ROWS, HEADS, QUERIES, KEYS))
    first = row_attention._sum(mask, bias, shape, torch.float32)
    assert row_attention._sum(mask, bias, shape, torch.float32) is first
    assert row_attention._sum(mask, bias + 1, shape, torch.float32) is not first


def test_it_is_used_only_with_gradients(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    apply = _RowAttention.apply
    monkeypatch.setattr(_RowAttention, "apply", lambda *given: (calls.append(1), apply(*given))[1])
    half = states(torch.bfloat16)
    assert mt5.model.config._attn_implementation == NAME
    _attend(nn.Identity(), *half, causal())
    _attend(nn.Identity(), *states(), causal())
    assert len(calls) == 2
    with torch.no_grad():
        _attend(nn.Identity(), *half, causal())
    _attend(nn.Identity(), *half, None)
    monkeypatch.setattr(row_attention, "LARGEST", 1)
    _attend(nn.Identity(), *half, causal())
    assert len(calls) == 2

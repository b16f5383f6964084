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
@pytest.mark.parametrize("faster", [{torch.float32}, set()], ids=["torch's kernel", "products"])
def test_it_equals_sdpa(
    is_additive: bool,
    has_bias: bool,
    scaling: float | None,
    faster: set[torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_attention, "FASTER_IN_TORCH", faster)
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
    assert len(calls) == 1
    with torch.no_grad():
        _attend(nn.Identity(), *half, causal())
    _attend(nn.Identity(), *half, None)
    _attend(nn.Identity(), *states(), causal())
    monkeypatch.setattr(row_attention, "LARGEST", 1)
    _attend(nn.Identity(), *half, causal())
    assert len(calls) == 1

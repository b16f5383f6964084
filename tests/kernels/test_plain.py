"""The plain versions of the kernels: what transformers and torch compute, forward and backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm

from loraloom.architectures.t5_layers import FusedFeedForward, FusedNorm, fuse_layers
from loraloom.base.loading import Base
from loraloom.kernels import cross_entropy, sweep_in_place
from loraloom.kernels.attention import attend
from loraloom.kernels.gated_gelu import gated_gelu
from loraloom.kernels.norm import norm_and_keep
from loraloom.kernels.output_head import OutputHead


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    own = [tensor.clone().requires_grad_() for tensor in inputs]
    out = function(*own)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    (out * weights).sum().backward()
    return [out.detach(), *(tensor.grad for tensor in own if tensor.grad is not None)]


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_norm_and_what_passes_it_by() -> None:
    norm = MT5LayerNorm(24, eps=1e-6).requires_grad_(False)
    norm.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 24)

    def ours(x: Tensor) -> Tensor:
        normed, kept = norm_and_keep(x, norm)
        return 3 * normed + kept.tanh()

    assert_alike(gradients(ours, x), gradients(lambda x: 3 * norm(x) + x.tanh(), x))
    assert_alike(gradients(FusedNorm(norm), x), gradients(norm, x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_on_a_processor_is_transformers_own(dtype: torch.dtype) -> None:
    """To the last bit; its gradient is computed in float32, and that of a trained weight by autograd."""
    norm = MT5LayerNorm(24, eps=1e-6).to(dtype).requires_grad_(False)
    norm.weight.data.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 24).to(dtype)
    assert torch.equal(FusedNorm(norm)(x.requires_grad_()), norm(x))
    exact = gradients(copy.deepcopy(norm).float(), x.detach().float())
    (found, *_) = gradients(FusedNorm(norm), x.detach())[1:]
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(found.float(), exact[1], rtol=tolerance, atol=tolerance)
    norm.weight.requires_grad_(True)
    FusedNorm(norm)(x).sum().backward()
    assert norm.weight.grad is not None


def test_a_gate() -> None:
    gate, value = torch.randn(2, 3, 40), torch.randn(2, 3, 40)
    expected = gradients(lambda g, v: F.gelu(g, approximate="tanh") * v, gate, value)
    assert_alike(gradients(gated_gelu, gate, value), expected)


@pytest.mark.parametrize("has_bias", [False, True])
def test_attention(has_bias: bool) -> None:
    q, k, v = torch.randn(2, 5, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 12)
    bias = torch.randn(5, 7, 3).permute(2, 0, 1)[None] if has_bias else None
    mask = torch.rand(2, 1, 5, 7) > 0.4
    mask[..., 0] = True

    def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = [x.unflatten(-1, (3, 4)).transpose(1, 2) for x in (q, k, v)]
        scores = split[0] @ split[1].mT + (0 if bias is None else bias)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return (weights @ split[2]).transpose(1, 2).flatten(2)

    found = gradients(lambda q, k, v: attend(q, k, v, bias, mask, 3), q, k, v)
    assert_alike(found, gradients(naive, q, k, v))


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_a_sweep_that_overwrites_its_logits(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr(sweep_in_place, "TILE_COLUMNS", 37)
    head = OutputHead(torch.randn(150, 16), scale)
    hidden, labels = torch.randn(9, 16), torch.randint(150, (9,))
    expected, found = torch.empty_like(hidden), torch.empty_like(hidden)
    losses = cross_entropy._sweep(hidden, labels, head, expected)
    torch.testing.assert_close(
        sweep_in_place.sweep_in_place(hidden, labels, head.weight, scale, found), losses
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        sweep_in_place.sweep_in_place(hidden, labels, head.weight, scale, None), losses
    )


def test_fused_layers_give_what_transformers_gives(mt5: Base) -> None:
    model = copy.deepcopy(mt5.model)
    names = set(model.state_dict())
    ids = torch.randint(3, 100, (2, 6))
    with torch.no_grad():
        expected = model(input_ids=ids, decoder_input_ids=ids).logits
        fuse_layers(model)
        found = model(input_ids=ids, decoder_input_ids=ids).logits
    kinds = {type(module) for module in model.modules()}
    assert {FusedNorm, FusedFeedForward} <= kinds
    assert set(model.state_dict()) == names
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

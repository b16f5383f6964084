"""Leaving out improbable columns changes no loss, and gradients by less than is promised."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from loraloom.bank import objective, sparse_product
from loraloom.bank.objective import OutputHead, token_losses

N, D, V = 12, 32, 4_096


def material(sharpness: float) -> tuple[Tensor, Tensor, OutputHead]:
    """A head whose softmax is as sharp as asked for, and probable labels."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, D, generator=generator) * D**-0.5 * sharpness
    hidden = torch.randn(N, D, generator=generator).bfloat16()
    labels = (hidden.float() @ weight.t()).argmax(1)
    labels[:2] = torch.tensor([0, V - 1])
    return hidden, labels, OutputHead(weight.bfloat16())


def losses_and_gradient(hidden: Tensor, labels: Tensor, head: OutputHead) -> tuple[Tensor, Tensor]:
    states = hidden.clone().requires_grad_()
    losses = token_losses(states, labels, head)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    return losses.detach(), states.grad.float()


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "TILE_COLUMNS", 1_024)


@pytest.mark.parametrize(("sharpness", "computed"), [(1.0, "all"), (3.0, "some"), (9.0, "few")])
def test_gradients_are_within_the_bound(
    sharpness: float, computed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, labels, head = material(sharpness)
    sizes: list[int] = []
    index = torch.Tensor.nonzero
    monkeypatch.setattr(torch.Tensor, "nonzero", lambda x: (sizes.append(int(x.sum())), index(x))[1])
    losses, gradient = losses_and_gradient(hidden, labels, head)
    if computed == "all":
        assert not sizes
    if computed == "few":
        assert 0 < max(sizes) < 200
    monkeypatch.setattr(objective, "omits_columns", lambda weight: False)
    expected, dense = losses_and_gradient(hidden, labels, head)
    assert torch.equal(losses, expected)
    longest = float(head.weight.float().norm(dim=1).max())
    rounding = 2**-8 * longest  # of the weights, the rows of the head and the gradient to bfloat16
    assert float((gradient - dense).norm(dim=1).max()) <= sparse_product.OMITTED * longest + rounding


@pytest.mark.parametrize("sharpness", [3.0, 9.0])
def test_no_more_than_the_bound_is_left_out(sharpness: float) -> None:
    hidden, _, head = material(sharpness)
    logits = hidden.float() @ head.weight.float().t()
    weights = (logits - logits.amax(1, keepdim=True)).exp()
    sums = weights.sum(1)
    ones = torch.ones(V, 1)  # so that the product is the sum of what was not left out
    kept = sparse_product.sparse_product(weights, sums, sums, ones, V)[:, 0]
    omitted = 1 - kept / sums
    assert float(omitted.max()) <= sparse_product.OMITTED + 1e-6


def test_a_tile_without_probability_costs_no_product() -> None:
    weights, total = torch.full((N, 64), 1e-12), torch.ones(N)
    product = sparse_product.sparse_product(weights, weights.sum(1), total, torch.ones(64, D), V)
    assert float(product.abs().max()) == 0.0


def test_float32_is_never_left_out() -> None:
    assert not sparse_product.omits_columns(torch.ones(1))
    assert sparse_product.omits_columns(torch.ones(1, dtype=torch.bfloat16))

"""The tiled loss equals cross-entropy over all logits, and never holds them.

Losses and gradients in float32 within 1e-5 relative, or 1e-5 of the largest element: a gradient is a
difference of two rows of the head that may cancel.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from loraloom.bank.objective import output_head, span_losses
from loraloom.base.loading import Base
from loraloom.kernels import cross_entropy
from loraloom.kernels.cross_entropy import plain_token_losses, token_losses
from loraloom.kernels.output_head import OutputHead
from tests.families import TINY_FAMILIES
from tests.parity.rig import batch_of, random_rows, stock_model

N, D, V = 37, 16, 203


@pytest.fixture(
    params=[(16_384, 1_024), (64, 10), (7, 1), (203, 37)], ids=lambda p: f"{p[0]}x{p[1]}", autouse=True
)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Tiles that hold all, that do not divide the vocabulary or the rows, and that divide exactly."""
    monkeypatch.setattr(cross_entropy, "TILE_COLUMNS", request.param[0])
    monkeypatch.setattr(cross_entropy, "BLOCK_ROWS", request.param[1])
    return request.param


def material(seed: int = 0, *, size: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, labels (the first and the last token among them), the head."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, D, generator=generator) * size
    labels = torch.randint(0, V, (N,), generator=generator)
    labels[:3] = torch.tensor([0, V - 1, 64])
    return hidden, labels, torch.randn(V, D, generator=generator) * 0.3


def reference(
    hidden: Tensor,
    labels: Tensor,
    head: OutputHead,
    upstream: Tensor,
    smoothing: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss of each row and ∂(upstream · losses)/∂hidden by autograd over all logits, in float64."""
    states = hidden.double().requires_grad_()
    logits = states * head.scale @ head.weight.double().t()
    if head.bias is not None:
        logits = logits + head.bias.double()
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    smoothed = smoothing if smoothing is not None else torch.zeros(len(labels))
    losses = torch.stack(
        [
            F.cross_entropy(row, label, label_smoothing=float(epsilon))
            for row, label, epsilon in zip(logits, labels, smoothed, strict=True)
        ]
    )
    (losses * upstream.double()).sum().backward()
    assert states.grad is not None
    return losses.detach(), states.grad


def assert_equal_to_reference(
    hidden: Tensor,
    labels: Tensor,
    head: OutputHead,
    tolerance: float = 1e-5,
    floor: float = 0.0,
    smoothing: Tensor | None = None,
) -> None:
    upstream = torch.rand(len(hidden), generator=torch.Generator().manual_seed(1)) + 0.1
    expected, gradient = reference(hidden, labels, head, upstream, smoothing)
    states = hidden.clone().requires_grad_()
    losses = token_losses(states, labels, head, smoothing)
    (losses * upstream).sum().backward()
    assert states.grad is not None
    assert losses.dtype == torch.float32
    for actual, wanted in ((losses.detach(), expected), (states.grad, gradient)):
        atol = max(floor, tolerance * float(wanted.abs().max()))
        torch.testing.assert_close(actual.double(), wanted, rtol=tolerance, atol=atol)


HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.25},
    "bias": {"bias": torch.linspace(-2, 2, V)},
    "softcap": {"softcap": 2.0},
    "all": {"scale": 0.5, "bias": torch.linspace(2, -2, V), "softcap": 3.0},
}


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_loss_and_gradient(options: dict[str, Any]) -> None:
    hidden, labels, weight = material()
    assert_equal_to_reference(hidden, labels, OutputHead(weight, **options))


@pytest.mark.parametrize("smoothing", [None, torch.linspace(0, 0.3, N)], ids=["sure", "smoothed"])
@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_the_plain_version_is_the_same_function(options: dict[str, Any], smoothing: Tensor | None) -> None:
    hidden, labels, weight = material()
    head, upstream = OutputHead(weight, **options), torch.ones(N)
    expected, gradient = reference(hidden, labels, head, upstream, smoothing)
    states = hidden.requires_grad_()
    losses = plain_token_losses(states, labels, head, smoothing)
    (found,) = torch.autograd.grad(losses.sum(), states)
    torch.testing.assert_close(losses.detach().double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.double(), gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", HEADS.values(), ids=HEADS)
def test_label_smoothing_equals_torchs(options: dict[str, Any]) -> None:
    """Each row has its own, as experiments of one pass have; 0 among them, and nearly 1."""
    hidden, labels, weight = material()
    smoothing = torch.linspace(0, 0.99, N)
    assert_equal_to_reference(hidden, labels, OutputHead(weight, **options), smoothing=smoothing)


def test_smoothing_by_nothing_is_the_plain_loss() -> None:
    hidden, labels, weight = material()
    plain = token_losses(hidden, labels, OutputHead(weight))
    torch.testing.assert_close(token_losses(hidden, labels, OutputHead(weight), torch.zeros(N)), plain)


@pytest.mark.parametrize("size", [1e4, 1e-4])
@pytest.mark.parametrize("options", [HEADS["plain"], HEADS["softcap"]], ids=["plain", "softcap"])
def test_extreme_logits_give_no_nan(size: float, options: dict[str, Any]) -> None:
    """Logits in the tens of thousands: exp of them overflows float32, and of their negative is 0."""
    hidden, labels, weight = material(size=size)
    if size > 1:
        assert float((hidden @ weight.t()).abs().max()) > 1e4
    # Under a saturated cap the slope 1 - tanh² is the rounding of 1 - 1, in float32 and torch alike.
    floor = 1e-6 * float(weight.abs().max()) if options else 0.0
    assert_equal_to_reference(hidden, labels, OutputHead(weight, **options), floor=floor)


def test_a_logit_that_dwarfs_all_others_wherever_it_lies() -> None:
    """The running maximum is found in the first, a middle or the last tile, and is the label or not."""
    for peak in (0, 100, V - 1):
        weight = torch.full((V, D), -625.0)
        weight[peak] = 625.0
        hidden = torch.ones(3, D)  # logits of 10,000 and -10,000
        labels = torch.tensor([peak, (peak + 1) % V, 64])
        losses = token_losses(hidden, labels, OutputHead(weight))
        expected = torch.tensor([0.0, 20_000.0, 20_000.0])
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=0)


def test_bfloat16_is_within_its_own_precision() -> None:
    """Products of 8-bit mantissas: 2 % of the largest; the loss itself stays float32."""
    hidden, labels, weight = material()
    head = OutputHead(weight.bfloat16(), scale=0.5)
    assert_equal_to_reference(hidden.bfloat16(), labels, head, tolerance=2e-2)


def test_a_plain_head_in_bfloat16_loses_nothing_to_the_rounding_of_logits() -> None:
    """The label's logit is subtracted before a product is rounded, and its own word is in no sum."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(V, 256, generator=generator) * 0.3).bfloat16()
    labels = torch.randint(0, V, (N,), generator=generator)
    hidden = (weight[labels] + torch.randn(N, 256, generator=generator) * 0.3).bfloat16()
    exact = F.cross_entropy(hidden.double() @ weight.double().t(), labels, reduction="none")
    rounded = F.cross_entropy((hidden @ weight.t()).float(), labels, reduction="none").double()
    losses = token_losses(hidden, labels, OutputHead(weight)).double()
    torch.testing.assert_close(losses, exact, rtol=1e-2, atol=1e-5)
    # Measured: below a tenth if the CPU multiplies bfloat16, an eighth if oneDNN multiplies in float32.
    assert float((losses - exact).abs().max()) < 0.2 * float((rounded - exact).abs().max())


def test_a_label_far_below_another_word_is_left_to_the_full_sweep() -> None:
    """exp(logit - label's logit) overflows float32 from 89 on; one such row takes its block along."""
    weight = torch.eye(V, D)
    hidden, labels = torch.zeros(3, D), torch.tensor([1, 1, 0])
    hidden[0, 0] = hidden[2, 0] = 60.0
    assert cross_entropy._sweep(hidden, labels, OutputHead(weight), None) is not None
    hidden[0, 0] = 90.0
    assert cross_entropy._sweep(hidden, labels, OutputHead(weight), None) is None
    assert_equal_to_reference(hidden, labels, OutputHead(weight))


def test_without_a_gradient_the_losses_are_the_same() -> None:
    hidden, labels, weight = material()
    head = OutputHead(weight, softcap=3.0)
    with torch.no_grad():
        without = token_losses(hidden, labels, head)
    assert torch.equal(token_losses(hidden.requires_grad_(), labels, head).detach(), without)


def test_no_tensor_of_all_logits_is_ever_made(tiles: tuple[int, int]) -> None:
    """Every tensor that torch makes is looked at; none holds more than a tile or what was given."""
    columns, rows = tiles
    hidden, labels, weight = material()
    sizes: list[int] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            made = out if isinstance(out, tuple | list) else [out]
            sizes.extend(t.numel() for t in made if isinstance(t, Tensor) and t.dim() >= 2)
            return out

    states = hidden.clone().requires_grad_()
    with Watching():
        token_losses(states, labels, OutputHead(weight)).sum().backward()
    tile = min(rows, N) * min(columns, V)
    assert max(sizes) <= max(tile, weight.numel())
    assert tile in sizes  # the products were seen
    if tile < N * V:
        assert N * V not in sizes


def test_the_losses_of_a_batch_are_the_models_own(base: Base, tiles: tuple[int, int]) -> None:
    """A span of base rows, and one example at a time through the stock model's forward and loss."""
    rows = list(random_rows(5, seed=2))
    batch, stock = batch_of(base, {None: rows}), stock_model(Path(base.name))
    with torch.no_grad():
        ours = float(span_losses(base, batch)[0])
        theirs = 0.0
        for row in rows:
            out = stock(
                input_ids=torch.from_numpy(row.input_ids).long()[None],
                labels=torch.from_numpy(row.labels).long()[None],
            )
            theirs += float(out.loss) * len(row.labels)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_each_part_sums_its_own_labels(mt5: Base) -> None:
    a, b = list(random_rows(5, seed=2)), list(random_rows(3, seed=3))
    with torch.no_grad():
        alone = [float(span_losses(mt5, batch_of(mt5, {None: rows}))[0]) for rows in (a, b)]
        both = span_losses(mt5, batch_of(mt5, {"a": a, "b": b})).tolist()
    assert both == pytest.approx(alone, rel=1e-5)


def test_the_scale_of_the_head_is_the_familys(base: Base, kind: str) -> None:
    assert output_head(base).scale == TINY_FAMILIES[kind].logit_scale
    assert base.head_is_tied == TINY_FAMILIES[kind].is_tied

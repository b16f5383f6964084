"""On a GPU, every kernel beside its plain version; without one, nothing of this runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from loraloom.bank.fused import products
from loraloom.bank.fused.hashed import module_salt, threshold
from loraloom.kernels import gated_gelu, norm
from loraloom.kernels.attention import attend, plain_attend
from loraloom.kernels.cross_entropy import _sweep
from loraloom.kernels.output_head import OutputHead
from loraloom.kernels.sweep_in_place import sweep_in_place

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
DTYPES = pytest.mark.parametrize("dtype", list(TOLERANCE))


def assert_near(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    distance = (found.float() - expected.float()).norm() / expected.float().norm()
    assert float(distance) < TOLERANCE[dtype]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


@DTYPES
@pytest.mark.parametrize(
    ("num", "tokens", "width", "r"), [(2, 37, 130, 8), (1, 5000, 256, 16), (3, 16, 64, 24)]
)
def test_products(num: int, tokens: int, width: int, r: int, dtype: torch.dtype) -> None:
    x, low = draw(num, tokens, width, dtype=dtype), draw(num, tokens, r, dtype=dtype)
    factor = draw(num, r, width, dtype=dtype)
    seeds = torch.randint(-(2**31), 2**31 - 1, (num, 2), dtype=torch.int32, device="cuda")
    thresholds = torch.full((num,), threshold(0.3), dtype=torch.int32, device="cuda")
    ordinals = torch.randint(0, 999, (num, tokens), device="cuda")
    for dropout in (None, products.HashedDropout(ordinals, seeds, thresholds, module_salt("q"))):
        assert_near(products.down(x, factor, dropout), products.plain_down(x, factor, dropout), dtype)
        into, expected = draw(num, r, width), draw(num, r, width)
        products.gather(x, low, into, dropout)
        products.plain_gather(x, low, expected, dropout)
        assert_near(into, expected, torch.float32)
        for before in (None, draw(num, tokens, width, dtype=dtype)):
            out, wanted = torch.empty_like(x), torch.empty_like(x)
            products.spread(low, factor, out, dropout, before)
            products.plain_spread(low, factor, wanted, dropout, before)
            assert_near(out, wanted, dtype)


@DTYPES
def test_attention(dtype: torch.dtype) -> None:
    inputs = [draw(3, length, 64, dtype=dtype) for length in (30, 41, 41)]
    bias = draw(30, 41, 2, dtype=dtype).permute(2, 0, 1)[None]
    mask = torch.rand(3, 1, 30, 41, device="cuda") > 0.2
    upstream = draw(3, 30, 64, dtype=dtype)
    results = []
    for function in (attend, plain_attend):
        own = [tensor.clone().requires_grad_() for tensor in inputs]
        out = function(*own, bias, mask, 2)
        out.backward(upstream)
        results.append([out.detach(), *(tensor.grad for tensor in own)])
    for found, expected in zip(*results, strict=True):
        assert_near(found, expected, dtype)


@DTYPES
def test_norm_gate_and_head(dtype: torch.dtype) -> None:
    weight = draw(96, dtype=dtype)
    first, second, third = (draw(7, 96, dtype=dtype) for _ in range(3))
    normed, inverse = norm._norm(first, weight, 1e-6)
    assert_near(normed, norm.plain_norm(first, weight, 1e-6)[0], dtype)
    arguments: Any = (second, third, first, weight, inverse)
    assert_near(norm._norm_backward(*arguments), norm.plain_norm_backward(*arguments), dtype)
    assert_near(gated_gelu._gated_gelu(first, second), gated_gelu.plain_gated_gelu(first, second), dtype)
    pairs = zip(
        gated_gelu._gated_gelu_backward(third, first, second),
        gated_gelu.plain_gated_gelu_backward(third, first, second),
        strict=True,
    )
    for found, expected in pairs:
        assert_near(found, expected, dtype)
    head, labels = OutputHead(draw(70_000, 96, dtype=dtype)), torch.randint(70_000, (7,), device="cuda")
    into, wanted = torch.empty_like(first), torch.empty_like(first)
    assert_near(
        sweep_in_place(first, labels, head.weight, 1.0, into), _sweep(first, labels, head, wanted), dtype
    )
    assert_near(into, wanted, dtype)

"""The one node that adapters are for autograd: its gradients, and what it keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.autograd.graph import saved_tensors_hooks

from loraloom.kernels.low_rank_sums import Group, add_low_ranks, linear_with_low_ranks, plain_low_ranks

IN, OUT, LENGTH = 5, 7, 3


def group(
    start: int,
    stop: int,
    ranks: list[int],
    *,
    scaling: float | Tensor = 1.5,
    kept: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Group:
    """Adapters of these ranks, padded to the largest, that share the rows; of one, matrices and no batch."""
    generator = torch.Generator().manual_seed(start)
    A, B = torch.zeros(len(ranks), max(ranks), IN), torch.zeros(len(ranks), OUT, max(ranks))
    parameters = []
    for number, r in enumerate(ranks):
        A[number, :r] = torch.randn(r, IN, generator=generator)
        B[number, :, :r] = torch.randn(OUT, r, generator=generator)
        parameters += [nn.Parameter(A[number, :r].to(dtype)), nn.Parameter(B[number, :, :r].to(dtype))]
    if len(ranks) == 1:  # as a stack gives it
        A, B = A[0], B[0]
    return Group(start, stop, A.to(dtype), B.to(dtype), tuple(parameters), scaling, kept)


def kept(num_rows: int) -> Tensor:
    return torch.rand(num_rows, LENGTH, IN, generator=torch.Generator().manual_seed(9)) > 0.4


def groups() -> list[Group]:
    """Rows 0–1 of one, 2 of none, 3–6 of two that share a product, with padded rank and dropout."""
    scalings = torch.tensor([2.5, 3.5])[:, None, None]
    return [group(0, 2, [1]), group(3, 7, [2, 3], scaling=scalings, kept=kept(4))]


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, LENGTH, IN, generator=generator, dtype=dtype, requires_grad=True)
    y = torch.randn(7, LENGTH, OUT, generator=generator, dtype=dtype, requires_grad=True)
    return x, y


def weights(groups: list[Group]) -> list[Tensor]:
    return [weight for group in groups for weight in group.parameters]


def test_it_is_the_formula_and_so_are_its_gradients() -> None:
    own, (x, y) = groups(), inputs()
    result, expected = add_low_ranks(x, y, own), plain_low_ranks(x, y, own)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(4), dtype=result.dtype)
    leaves = [x, y, *weights(own)]
    torch.testing.assert_close(
        torch.autograd.grad(result, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    )


def whole() -> list[Group]:
    """All rows, in two groups with dropout."""
    return [group(0, 3, [2], kept=kept(3)), group(3, 7, [2, 3], kept=kept(4))]


@pytest.mark.parametrize("own", [groups(), whole()], ids=["some rows", "all rows"])
@pytest.mark.parametrize("has_bias", [False, True])
def test_with_the_linear_it_is_the_formula_too(own: list[Group], has_bias: bool) -> None:
    x, _ = inputs()
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(OUT, IN, generator=generator, dtype=x.dtype)
    bias = torch.randn(OUT, generator=generator, dtype=x.dtype) if has_bias else None
    result = linear_with_low_ranks(x, weight, bias, own)
    expected = plain_low_ranks(x, F.linear(x, weight, bias), own)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(result.shape, generator=generator, dtype=result.dtype)
    leaves = [x, *weights(own)]
    torch.testing.assert_close(
        torch.autograd.grad(result, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    )


def test_a_linear_whose_input_needs_no_gradient_gives_none_to_it() -> None:
    own, (x, _) = whole(), inputs()
    weight = torch.ones(OUT, IN, dtype=x.dtype)
    linear_with_low_ranks(x.detach(), weight, None, own).sum().backward()
    assert x.grad is None
    assert all(parameter.grad is not None for parameter in weights(own))


def test_its_gradients_are_those_of_differences() -> None:
    own, (x, y) = groups(), inputs()

    def add(x: Tensor, y: Tensor, *_: Tensor) -> Tensor:
        for group in own:  # it changes the parameters, which a pass copies from
            for number, (A, B) in enumerate(zip(group.parameters[::2], group.parameters[1::2], strict=True)):
                group.A.view(-1, *group.A.shape[-2:])[number, : len(A)] = A.detach()
                group.B.view(-1, *group.B.shape[-2:])[number, :, : len(A)] = B.detach()
        return add_low_ranks(x, y, own)

    assert gradcheck(add, (x, y, *weights(own)))


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    own, (x, y) = groups(), inputs()
    add_low_ranks(x.detach(), y.detach(), own).sum().backward()
    assert x.grad is None
    assert y.grad is None
    assert all(weight.grad is not None for weight in weights(own))


def test_in_bfloat16_an_adapter_gets_its_gradients_in_its_own_precision() -> None:
    in_float32 = group(0, 7, [2], dtype=torch.float32)
    own = [replace(in_float32, A=in_float32.A.bfloat16(), B=in_float32.B.bfloat16())]
    x, y = inputs(torch.bfloat16)
    add_low_ranks(x, y, own).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    for weight in weights(own):
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("computes_linear", [False, True])
@pytest.mark.parametrize("num_linears", [1, 3])
def test_linears_that_read_the_same_keep_it_once(num_linears: int, computes_linear: bool) -> None:
    """As q, k and v do: beside x only the mask, a byte an element, and what is as narrow as the rank."""
    x, y = inputs(torch.float32)
    weight = torch.ones(OUT, IN)
    mask, seen = kept(7), dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    own = [group(0, 7, [2], kept=mask.clone(), dtype=torch.float32) for _ in range(num_linears)]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        results = [
            linear_with_low_ranks(x, weight, None, [each]) if computes_linear else add_low_ranks(x, y, [each])
            for each in own
        ]
    assert all(result.requires_grad for result in results)
    parameters = {each.data_ptr() for each in [weight, *weights(own)]}
    mask_and_low = 7 * LENGTH * (IN + 2 * 4)
    num_bytes = sum(
        tensor.untyped_storage().nbytes() for address, tensor in seen.items() if address not in parameters
    )
    assert num_bytes == x.nbytes + num_linears * mask_and_low


def test_halves_are_computed_in_float32() -> None:
    """As far from the formula in float32 as the rounding of inputs and outputs."""
    x, y = (each.detach().bfloat16().requires_grad_() for each in inputs(torch.float32))
    own = [replace(each, A=each.A.float(), B=each.B.float()) for each in groups()]
    own = [
        replace(each, parameters=tuple(nn.Parameter(p.detach().float()) for p in each.parameters))
        for each in own
    ]
    exact_x, exact_y = (each.detach().float().requires_grad_() for each in (x, y))
    result, expected = add_low_ranks(x, y, own), plain_low_ranks(exact_x, exact_y, own)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(4)).bfloat16()
    found = torch.autograd.grad(result, [x, y, *weights(own)], upstream)
    wanted = torch.autograd.grad(expected, [exact_x, exact_y, *weights(own)], upstream.float())
    assert result.dtype == torch.bfloat16
    assert {each.dtype for each in found[2:]} == {torch.float32}
    torch.testing.assert_close(result.float(), expected, rtol=1e-2, atol=1e-2)
    for actual, exact in zip(found[2:], wanted[2:], strict=True):
        torch.testing.assert_close(actual, exact, rtol=1e-5, atol=1e-5)
    # That of x is compared without the base's own share, which the linear adds.
    torch.testing.assert_close(found[0].float(), wanted[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_gradients_it_is_added_in_place_and_is_the_same(dtype: torch.dtype) -> None:
    """Also if the products have another dtype than the base, as on a processor in bfloat16."""
    x, y = (each.detach() for each in inputs(dtype))
    scalings = torch.tensor([2.5, 3.5])[:, None, None]
    made = [group(0, 2, [1], dtype=torch.float32), group(3, 7, [2, 3], scaling=scalings, dtype=torch.float32)]
    expected = add_low_ranks(x, y, made)
    for each in made:
        each.add_to(x, y)
    assert torch.equal(y, expected)
    assert y.dtype == dtype

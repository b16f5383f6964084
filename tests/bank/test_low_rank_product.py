"""The one node that adapters are for autograd: its gradients, and what it keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.autograd.graph import saved_tensors_hooks

from loraloom.bank.linear import Group, LowRank, add_low_ranks

IN, OUT, LENGTH = 5, 7, 3


def adapter(r: int, seed: int, dropout: float = 0.0, dtype: torch.dtype = torch.float64) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(r, IN, generator=generator, dtype=dtype)
    B = torch.randn(OUT, r, generator=generator, dtype=dtype)
    return LowRank(nn.Parameter(A), nn.Parameter(B), scaling=1.5 + seed, dropout=dropout)


def kept(num_rows: int) -> Tensor:
    return torch.rand(num_rows, LENGTH, IN, generator=torch.Generator().manual_seed(9)) > 0.4


def groups() -> list[Group]:
    """Rows 0–1 of one, 2 of none, 3–6 of two that share a product, with padded rank and dropout."""
    together = (adapter(2, 1, dropout=0.4), adapter(3, 2))
    return [Group(0, 2, (adapter(1, 0),)), Group(3, 7, together, kept(4))]


def plain(x: Tensor, y: Tensor, groups: list[Group]) -> Tensor:
    """The same, as the formula has it, adapter by adapter."""
    out = list(y)
    for group in groups:
        each = (group.stop - group.start) // len(group.adapters)
        for number, own in enumerate(group.adapters):
            for row in range(each):
                at = group.start + number * each + row
                seen = x[at]
                if group.kept is not None:
                    seen = seen * group.kept[at - group.start] / (1 - own.dropout)
                out[at] = out[at] + own.scaling * seen @ own.A.T @ own.B.T
    return torch.stack(out)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(7, LENGTH, IN, generator=generator, dtype=dtype, requires_grad=True)
    y = torch.randn(7, LENGTH, OUT, generator=generator, dtype=dtype, requires_grad=True)
    return x, y


def weights(groups: list[Group]) -> list[Tensor]:
    return [w for group in groups for own in group.adapters for w in (own.A, own.B)]


def test_it_is_the_formula_and_so_are_its_gradients() -> None:
    own, (x, y) = groups(), inputs()
    result, expected = add_low_ranks(x, y, own), plain(x, y, own)
    torch.testing.assert_close(result, expected)
    upstream = torch.randn(result.shape, generator=torch.Generator().manual_seed(4), dtype=result.dtype)
    leaves = [x, y, *weights(own)]
    torch.testing.assert_close(
        torch.autograd.grad(result, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)
    )


def test_its_gradients_are_those_of_differences() -> None:
    own, (x, y) = groups(), inputs()
    assert gradcheck(lambda x, y, *_: add_low_ranks(x, y, own), (x, y, *weights(own)))


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    own, (x, y) = groups(), inputs()
    add_low_ranks(x.detach(), y.detach(), own).sum().backward()
    assert x.grad is None
    assert y.grad is None
    assert all(weight.grad is not None for weight in weights(own))


def test_in_bfloat16_an_adapter_gets_its_gradients_in_its_own_precision() -> None:
    own = [Group(0, 7, (adapter(2, 1, dtype=torch.float32),))]
    x, y = inputs(torch.bfloat16)
    add_low_ranks(x, y, own).sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    for weight in weights(own):
        assert weight.grad is not None
        assert weight.grad.dtype == torch.float32


@pytest.mark.parametrize("num_linears", [1, 3])
def test_linears_that_read_the_same_keep_it_once(num_linears: int) -> None:
    """As q, k and v do: beside x only the mask, a byte an element, and what is as narrow as the rank."""
    x, y = inputs(torch.float32)
    mask, seen = kept(7), dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    own = [Group(0, 7, (adapter(2, seed, 0.4, torch.float32),), mask.clone()) for seed in range(num_linears)]
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        results = [add_low_ranks(x, y, [group]) for group in own]
    assert all(result.requires_grad for result in results)
    parameters = {weight.data_ptr() for weight in weights(own)}
    mask_and_low = 7 * LENGTH * (IN + 2 * 4)
    num_bytes = sum(
        tensor.untyped_storage().nbytes() for address, tensor in seen.items() if address not in parameters
    )
    assert num_bytes == x.nbytes + num_linears * mask_and_low

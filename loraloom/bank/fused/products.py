"""The three products of a low-rank update, with or without dropout.

For x [adapters, tokens, features] and dropout d, the forward pass is low = d(x) Aᵀ and y = low Bᵀ + …. The
backward pass, for g = ∂loss/∂y, is up = g B, ∂A = upᵀ d(x), ∂x = d(up A) + … and ∂B = gᵀ low. `down`
computes low and up; `gather` computes ∂A and ∂B; `spread` computes y and ∂x. A factor F, [adapters, r,
features], is A itself, or B transposed. The scaling is part of A and B (`adapter_group.py`).

On a GPU, `product_kernels.py` computes the products with dropout and those that are added to another tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loraloom.bank.fused.hashed import HashedDropout
from loraloom.kernels.dispatch import by_triton


def down(x: Tensor, factor: Tensor, dropout: HashedDropout | None = None) -> Tensor:
    """Compute dropout(x) Fᵀ, [adapters, tokens, r].

    Args:
        x: [adapters, tokens, features], contiguous.
        factor: [adapters, r, features], in the dtype of x, with any strides.
        dropout: dropout to apply to x; none by default.
    """
    if by_triton(x) and dropout is not None:
        from loraloom.bank.fused import product_kernels as kernels

        return kernels.down(x, factor, dropout)
    return plain_down(x, factor, dropout)


def gather(x: Tensor, low: Tensor, into: Tensor, dropout: HashedDropout | None = None) -> None:
    """Write lowᵀ dropout(x), the gradient of a factor, to `into`.

    Args:
        x: [adapters, tokens, features], contiguous.
        low: [adapters, tokens, r], contiguous.
        into: float32 [adapters, r, features], with any strides; overwritten.
        dropout: dropout to apply to x; none by default.
    """
    if by_triton(x) and dropout is not None:
        from loraloom.bank.fused import product_kernels as kernels

        kernels.gather(x, low, into, dropout)
    elif x.is_cuda and dropout is None:
        torch.bmm(low.mT, x, out_dtype=torch.float32, out=into)
    else:
        plain_gather(x, low, into, dropout)


def spread(
    low: Tensor,
    factor: Tensor,
    into: Tensor,
    dropout: HashedDropout | None = None,
    before: Tensor | None = None,
) -> None:
    """Write before + dropout(low F) to `into`.

    Args:
        low: [adapters, tokens, r], contiguous.
        factor: [adapters, r, features].
        into: [adapters, tokens, features], contiguous.
        dropout: dropout to apply to low F, without the factor 1 / (1 - p); none by default.
        before: a tensor of the shape of `into`, or `into` itself; zero by default.
    """
    if by_triton(low) and (dropout is not None or before is not None):
        from loraloom.bank.fused import product_kernels as kernels

        kernels.spread(low, factor, into, dropout, before)
    else:
        plain_spread(low, factor, into, dropout, before)


def plain_down(x: Tensor, factor: Tensor, dropout: HashedDropout | None = None) -> Tensor:
    """Compute `down` without Triton."""
    return torch.bmm(x if dropout is None else dropout(x), factor.mT)


def plain_gather(x: Tensor, low: Tensor, into: Tensor, dropout: HashedDropout | None = None) -> None:
    """Compute `gather` without Triton."""
    own = x if dropout is None else dropout(x)
    into.copy_(torch.bmm(low.float().mT, own.float()))


def plain_spread(
    low: Tensor,
    factor: Tensor,
    into: Tensor,
    dropout: HashedDropout | None = None,
    before: Tensor | None = None,
) -> None:
    """Compute `spread` without Triton."""
    if dropout is None and before is None:
        torch.bmm(low, factor, out=into)
        return
    through = torch.bmm(low, factor)
    through = through if dropout is None else dropout(through)
    into.copy_(through if before is None else before + through)

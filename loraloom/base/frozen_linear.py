"""Access to frozen linears for adapters, merging and checks, in whatever form their weights are stored.

Code outside this file reads a linear through `FrozenLinear`, never through `.weight`. `KINDS` has an entry
for each way of storing weights; the class for quantized weights is in `quantized_linear.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from loraloom.base.quantized_linear import QuantizedLinear
from loraloom.base.sharding import whole


class FrozenLinear(Protocol):
    """Access to a frozen linear, y = W x + b, in whatever form W is stored."""

    @property
    def in_features(self) -> int:
        """The width of x."""

    @property
    def out_features(self) -> int:
        """The width of y."""

    @property
    def bias(self) -> Tensor | None:
        """The bias b, [out]; None if the linear has none."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation, and therefore of x and y."""

    def product(self, x: Tensor) -> Tensor:
        """Compute y, [rows, len, in] → [rows, len, out]."""

    def operands(self) -> tuple[Tensor, Tensor | None] | None:
        """Return W and b if y is torch's plain `linear(x, W, b)`; None if y is computed in another way."""

    def dense(self) -> Tensor:
        """Return W as a plain matrix, [out, in]; it may be the weight itself, so it must not be modified."""

    def weight_norm(self) -> float:
        """Compute ‖W‖, the Frobenius norm, summed in float32 whatever the dtype."""

    def add_(self, delta: Tensor) -> None:
        """Change W to W + delta, in place.

        Args:
            delta: [out, in], float32.
        """


class PlainLinear:
    """An `nn.Linear` with float32, bfloat16 or float16 weights."""

    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    @property
    def in_features(self) -> int:
        """The width of x."""
        return self.module.in_features

    @property
    def out_features(self) -> int:
        """The width of y."""
        return self.module.out_features

    @property
    def bias(self) -> Tensor | None:
        """The bias b, [out]; None if the linear has none."""
        return None if self.module.bias is None else whole(self.module.bias)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the computation."""
        return self.module.weight.dtype

    def product(self, x: Tensor) -> Tensor:
        """Compute y, [rows, len, in] → [rows, len, out]."""
        y: Tensor = self.module(x)
        return y

    def operands(self) -> tuple[Tensor, Tensor | None] | None:
        """Return W and b; None if a subclass, a hook or a replaced `forward` may compute another y."""
        module = self.module
        hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
        is_plain = type(module) is nn.Linear and not any(hooks) and "forward" not in module.__dict__
        return (module.weight, module.bias) if is_plain else None

    def dense(self) -> Tensor:
        """Return the weight itself, [out, in], or a gathered copy if it is divided among ranks."""
        return whole(self.module.weight.detach())

    @torch.no_grad()
    def weight_norm(self) -> float:
        """Compute ‖W‖, the Frobenius norm, summed in float32."""
        return float(self.dense().float().norm())

    @torch.no_grad()
    def add_(self, delta: Tensor) -> None:
        """Change W to W + delta, in place."""
        self.module.weight += delta


# Class of a module -> how it is accessed. A subclass of `nn.Linear` that stores its weights in another way
# has an entry of its own; the most derived class counts.
KINDS: dict[type[nn.Module], Callable[[Any], FrozenLinear]] = {
    nn.Linear: PlainLinear,
    QuantizedLinear: lambda linear: linear,
}


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a linear that `frozen_linear` gives access to."""
    return isinstance(module, tuple(KINDS))


def frozen_linear(module: nn.Module) -> FrozenLinear:
    """Return the `FrozenLinear` of a module for which `is_linear` holds."""
    kind = next(KINDS[each] for each in type(module).__mro__ if each in KINDS)
    return kind(module)

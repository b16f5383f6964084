"""A frozen linear as adapters, merging and checks see it, whatever form its weights are stored in.

Everything outside of this file asks for the dense weight, its norm or its sizes, and never for `.weight`.
A quantised linear is one more class here, entered in `KINDS`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class FrozenLinear(Protocol):
    """What the rest of the code may know of a linear: y = W x + b."""

    @property
    def in_features(self) -> int:
        """The width of x."""

    @property
    def out_features(self) -> int:
        """The width of y."""

    @property
    def bias(self) -> Tensor | None:
        """b, [out]; None if the linear has none."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in, and so the dtype of x and y."""

    def dense(self) -> Tensor:
        """W as a plain matrix, [out, in]; the weight itself if it is stored as one, so never change it."""

    def weight_norm(self) -> float:
        """‖W‖ in the Frobenius norm, summed in float32 whatever the dtype."""

    def add_(self, delta: Tensor) -> None:
        """Change W to W + delta, in place.

        Args:
            delta: [out, in], float32.
        """


class PlainLinear:
    """An `nn.Linear` of float32, bfloat16 or float16 weights."""

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
        """b, [out]; None if the linear has none."""
        return self.module.bias

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.module.weight.dtype

    def dense(self) -> Tensor:
        """The weight itself, [out, in]."""
        return self.module.weight.detach()

    @torch.no_grad()
    def weight_norm(self) -> float:
        """‖W‖ in the Frobenius norm, summed in float32."""
        return float(self.module.weight.float().norm())

    @torch.no_grad()
    def add_(self, delta: Tensor) -> None:
        """Change W to W + delta, in place."""
        self.module.weight += delta


# The class of a module -> how it is read. A subclass of `nn.Linear` that stores its weights in another
# way has a row of its own; the most derived class decides.
KINDS: dict[type[nn.Module], type[PlainLinear]] = {nn.Linear: PlainLinear}


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear that can be read here."""
    return isinstance(module, tuple(KINDS))


def frozen_linear(module: nn.Module) -> FrozenLinear:
    """How to read a linear of the base."""
    kind = next(KINDS[each] for each in type(module).__mro__ if each in KINDS)
    return kind(module)  # type: ignore[arg-type]

"""A frozen linear with quantized weights: a module of bitsandbytes or torchao, with an exact gradient.

The library's own module computes y. Its backward pass is not used, because of what the forward pass would
keep for it: torchao's int8 keeps the weights in the dtype of x, so that no memory is saved;
bitsandbytes' int8 keeps x on a CPU. The gradient is computed as in bitsandbytes, dL/dx = dL/dy · W,
where W is a plain matrix that exists only during the product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Scheme:
    """A way to quantize a linear.

    Args:
        package: import name of the package whose module computes the linear.
        make: takes a frozen `nn.Linear` on the CPU and a device; returns the package's module on the device.
        dense: takes the package's module and a dtype; returns the weight as a plain matrix, [out, in].
        stored_bytes: takes the package's module; returns the bytes of its weight, including the scales.
        group_size: number of weights that share a scale; 0 if each row has one scale.
        largest_error: largest allowed error of a weight, relative to the largest weight of its group.
        cpu_widths: on a CPU, only linears whose number of inputs is a multiple of this are quantized.
    """

    package: str
    make: Callable[[nn.Linear, torch.device], Any]
    dense: Callable[[Any, torch.dtype], Tensor]
    stored_bytes: Callable[[Any], int]
    largest_error: float
    group_size: int = 0
    cpu_widths: int = 1


class QuantizedLinear(nn.Module):
    """A frozen linear with quantized weights, which implements `FrozenLinear` itself.

    Args:
        linear: the frozen linear, on the CPU; its weight is not needed afterwards.
        scheme: how to quantize it.
        device: the device that it computes on.
    """

    def __init__(self, linear: nn.Linear, scheme: Scheme, device: torch.device) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self.scheme = scheme
        self.stored = scheme.make(linear, device)

    @property
    def weight(self) -> Tensor:
        """The weight in the package's own format; `dense` returns it as a plain matrix."""
        return self.stored.weight  # type: ignore[no-any-return]

    @property
    def bias(self) -> Tensor | None:
        """The bias b, [out]; None if the linear has none."""
        return self.stored.bias  # type: ignore[no-any-return]

    @property
    def stored_bytes(self) -> int:
        """The number of bytes that the weight, its scales and the bias take."""
        return self.scheme.stored_bytes(self.stored) + (0 if self.bias is None else self.bias.nbytes)

    def train(self, mode: bool = True) -> QuantizedLinear:
        """Set the mode of this module, and never that of the package's module.

        Nothing that it computes depends on the mode, except that bitsandbytes 0.50 stores the weights of NF4
        in another order at the first pass in eval mode on a CPU with AVX512-BF16. From then on, there
        is no gradient, and the weights are read in the wrong order, without an error.
        """
        self.training = mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Compute […, in] → […, out]."""
        if torch.is_grad_enabled() and x.requires_grad:
            return _Product.apply(x, self)  # type: ignore[no-any-return, no-untyped-call]
        return self.stored(x)  # type: ignore[no-any-return]

    def product(self, x: Tensor) -> Tensor:
        """Compute y, […, in] → […, out]."""
        return self.forward(x)

    def operands(self) -> None:
        """Return None: the package computes y."""

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Compute W as a new plain matrix, [out, in], in the dtype of the computation."""
        return self.scheme.dense(self.stored, self.dtype)

    @torch.no_grad()
    def weight_norm(self) -> float:
        """Compute ‖W‖, the Frobenius norm, summed in float32."""
        return float(self.dense().float().norm())

    def add_(self, delta: Tensor) -> None:
        """Refuse to change the weights: the sum would be rounded to the few values that they can have.

        Raises:
            AssertionError: always.
        """
        raise AssertionError("an adapter is merged into the original weights, never into quantized ones")


class _Product(torch.autograd.Function):
    """The y of the package's module, with the gradient of y = W x + b; keeps neither x nor a dense W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        return linear.stored(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream @ ctx.linear.dense(), None


class DenseProduct(torch.autograd.Function):
    """y = W x + b with W as a plain matrix, forward and backward: a reference for quantized linears."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        """Compute […, in] → […, out] without the package's product."""
        ctx.linear = linear
        return F.linear(x, linear.dense(), linear.bias)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Compute the gradient of x."""
        return upstream @ ctx.linear.dense(), None


def quantized_linears(model: nn.Module) -> dict[str, QuantizedLinear]:
    """Return the quantized linears of a model, by name."""
    return {name: each for name, each in model.named_modules() if isinstance(each, QuantizedLinear)}


def weight_bytes(model: nn.Module, own: Callable[[Tensor], Tensor] = lambda weight: weight) -> int:
    """Return how many bytes a model's weights take in the form in which they are stored.

    Args:
        model: the model.
        own: returns the part of a weight that this process keeps; by default, all of it.
    """
    quantized = quantized_linears(model).values()
    theirs = {id(weight) for linear in quantized for weight in linear.parameters()}
    others = sum(own(weight).nbytes for weight in model.parameters() if id(weight) not in theirs)
    return others + sum(linear.stored_bytes for linear in quantized)

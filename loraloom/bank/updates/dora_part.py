"""The part of one DoRA adapter in one linear: its tensors, the row norms of W + s B A, and ΔW."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from loraloom.base.frozen_linear import FrozenLinear


@dataclass(frozen=True)
class DoraPart:
    """The part of one DoRA adapter in one linear.

    Args:
        A: [r, in], float32, trained.
        B: [out, r], float32, trained; zero at the start.
        magnitude: [out], float32, trained: the length of each row of W + ΔW.
        scaling: lora_alpha / r, or lora_alpha / √r.
        dropout: probability, in training, of dropping an input from the products with A and W.
    """

    A: nn.Parameter
    B: nn.Parameter
    magnitude: nn.Parameter
    scaling: float
    dropout: float

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """A, B and the magnitudes."""
        return {"lora_A": self.A, "lora_B": self.B, "lora_magnitude_vector": self.magnitude}

    @torch.no_grad()
    def norms(self, linear: FrozenLinear) -> Tensor:
        """Compute the norms of the rows of W + s B A, float32 [out]."""
        return row_norms(linear, self.A, self.B, self.scaling)

    @torch.no_grad()
    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute diag(m / ‖W + s B A‖) (W + s B A) - W, [out, in], float32."""
        weight = linear.dense().float()
        turned = weight + self.B @ self.A * self.scaling
        return turned * (self.magnitude / _above_zero(turned.norm(dim=1)))[:, None] - weight

    @torch.no_grad()
    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute ΔW times some vectors, float64 [out, n]."""
        weight, A, B = linear.dense().double(), self.A.double(), self.B.double()
        direct = weight @ vectors
        turned = direct + self.scaling * (B @ (A @ vectors))
        squares = weight.square().sum(1) + _cross_terms(weight, A, B, self.scaling)
        factors = self.magnitude.double() / _above_zero(squares.clamp_min(0).sqrt())
        return turned * factors[:, None] - direct

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖ΔW‖."""
        return float(self.delta(linear).norm())

    def norm_bound(self) -> float:
        """Compute ‖m‖ + s · ‖A‖ ‖B‖, where ‖m‖ is the norm of W + ΔW, whose rows have the lengths m."""
        A, B, magnitude = (float(each.detach().norm()) for each in (self.A, self.B, self.magnitude))
        return magnitude + self.scaling * A * B

    def delta_bias(self) -> None:
        """Return None: the bias of the linear stays as it is."""


@torch.no_grad()
def row_norms(linear: FrozenLinear, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    """Compute the norms of the rows of W + s B A without forming that sum, float32 [out].

    ‖wᵢ + s bᵢ A‖² = ‖wᵢ‖² + 2 s bᵢ · (W Aᵀ)ᵢ + s² bᵢ (A Aᵀ) bᵢᵀ, which needs only products of width r.

    Args:
        linear: W.
        down, up: A and B.
        scaling: s.
    """
    weight = linear.dense().float()
    squares = weight.square().sum(1) + _cross_terms(weight, down.detach(), up.detach(), scaling)
    return _above_zero(squares.clamp_min(0).sqrt())


def _cross_terms(weight: Tensor, down: Tensor, up: Tensor, scaling: float) -> Tensor:
    return (up * (2 * scaling * (weight @ down.T) + scaling**2 * (up @ (down @ down.T)))).sum(1)


def _above_zero(norms: Tensor) -> Tensor:
    """Replace norms of 0 with the smallest normal number, so that a zero row can be divided by its norm."""
    return norms.clamp_min(torch.finfo(norms.dtype).tiny)

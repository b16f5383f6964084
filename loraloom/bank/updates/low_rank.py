"""The part of a LoRA adapter that belongs to one linear: A, B, and the ΔW computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from loraloom.bank.updates.update import ParameterGroup
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.recipe import LoraSettings


@dataclass(frozen=True)
class LowRank:
    """The part of a LoRA adapter that belongs to one linear.

    Args:
        A: [r, in], float32, trained.
        B: [out, r], float32, trained; zero in a new adapter.
        scaling: lora_alpha / r, or lora_alpha / √r with `use_rslora`.
        dropout: dropout probability for the input of A, in training.
    """

    A: nn.Parameter
    B: nn.Parameter
    scaling: float
    dropout: float

    @property
    def r(self) -> int:
        """The rank."""
        return self.A.shape[0]

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """A and B."""
        return {"lora_A": self.A, "lora_B": self.B}

    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute s · B A, [out, in], float32."""
        return self.B.detach() @ self.A.detach() * self.scaling

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute s · B (A v), float64 [out, n]."""
        return self.scaling * (self.B.detach().double() @ (self.A.detach().double() @ vectors))

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖s B A‖ without forming B A, from two [r, r] matrices: ‖B A‖² = ⟨Bᵀ B, A Aᵀ⟩."""
        device = "cpu" if self.A.device.type == "mps" else self.A.device  # an Apple GPU has no float64
        A, B = (each.detach().to(device).double() for each in (self.A, self.B))
        square = float(((B.t() @ B) * (A @ A.t())).sum())
        return float(self.scaling * max(square, 0.0) ** 0.5)

    def norm_bound(self) -> float:
        """Compute s · ‖A‖ ‖B‖, an upper bound on ‖s B A‖."""
        return self.scaling * float(self.A.detach().norm()) * float(self.B.detach().norm())

    def delta_bias(self) -> None:
        """Return None: the bias of the linear stays as it is."""


def low_rank_groups(settings: LoraSettings, with_b: tuple[str, ...] = ()) -> Sequence[ParameterGroup]:
    """Return A and B as one parameter group; with LoRA+, as two, because B has a higher learning rate.

    Args:
        settings: settings of the adapter.
        with_b: names of further tensors, which join the group of B.

    Source: Hayou et al., 2024, https://arxiv.org/abs/2402.12354; as in PEFT's `create_loraplus_optimizer`.
    """
    ratio = settings.loraplus_lr_ratio
    if ratio is None or ratio == 1:
        return (ParameterGroup(("lora_A", "lora_B", *with_b)),)
    return ParameterGroup(("lora_A",)), ParameterGroup(("lora_B", *with_b), rate_factor=ratio)

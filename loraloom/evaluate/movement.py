"""How far an adapter moved its base: the size of ΔW beside the size of W."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import LowRank


@dataclass(frozen=True)
class Movement:
    """‖ΔW‖ / ‖W‖ in the Frobenius norm.

    Args:
        total: over all adapted linears together.
        kinds: by part of the model and kind of linear, `{"decoder q": 0.013, …}`.
    """

    total: float
    kinds: dict[str, float]


@torch.no_grad()
def movement(bank: AdapterBank, slot: str) -> Movement:
    """How far one attached adapter moves each kind of linear."""
    squares: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    modules = {target.name: target for target in bank.available}
    for name, part in bank.parts(slot).items():
        kind = squares[f"{bank.place_of(name)} {modules[name].suffix}"]
        kind[0] += delta_norm(part) ** 2
        kind[1] += float(modules[name].module.weight.float().norm()) ** 2
    kinds = {kind: (delta / weight) ** 0.5 for kind, (delta, weight) in sorted(squares.items())}
    delta, weight = (sum(pair[side] for pair in squares.values()) for side in (0, 1))
    return Movement(total=(delta / weight) ** 0.5, kinds=kinds)


def delta_norm(part: LowRank) -> float:
    """‖s B A‖ without the product: ‖B A‖² = ⟨Bᵀ B, A Aᵀ⟩, both only [r, r]."""
    A, B = part.A.detach().double(), part.B.detach().double()
    square = float(((B.t() @ B) * (A @ A.t())).sum())
    return float(part.scaling * max(square, 0.0) ** 0.5)

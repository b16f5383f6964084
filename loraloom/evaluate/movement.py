"""How far an adapter moved its base: the size of ΔW beside the size of W."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import LowRank
from loraloom.run.documents.comparison import Movement

# On the embedded starter, adapters that moved it by 0.034 % changed 1 answer of 100, by 0.33 % 26 of 100, by
# 3.6 % every one (docs/article.md).
HARDLY_MOVED = 1e-3


def movement(bank: AdapterBank, slot: str) -> Movement:
    """How far one attached adapter moves each kind of linear."""
    return _movement(bank, bank.parts(slot))


def movement_of_tensors(bank: AdapterBank, tensors: Mapping[str, Tensor], scaling: float) -> Movement:
    """How far an adapter that is not attached would move each kind of linear.

    Args:
        bank: on the base that it belongs to.
        tensors: as `AdapterBank.tensors` gives them.
        scaling: the factor before B A.
    """
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    parts = {
        name: LowRank(
            A=nn.Parameter(tensors[f"{name}.lora_A"], requires_grad=False),
            B=nn.Parameter(tensors[f"{name}.lora_B"], requires_grad=False),
            scaling=scaling,
            dropout=0.0,
        )
        for name in names
    }
    return _movement(bank, parts)


@torch.no_grad()
def _movement(bank: AdapterBank, parts: Mapping[str, LowRank]) -> Movement:
    squares: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    modules = {target.name: target for target in bank.available}
    for name, part in parts.items():
        kind = squares[f"{bank.place_of(name)} {modules[name].suffix}"]
        kind[0] += delta_norm(part) ** 2
        kind[1] += weight_norm(modules[name].module) ** 2
    kinds = {kind: (delta / weight) ** 0.5 for kind, (delta, weight) in sorted(squares.items())}
    delta, weight = (sum(pair[side] for pair in squares.values()) for side in (0, 1))
    return Movement(total=(delta / weight) ** 0.5, kinds=kinds)


@torch.no_grad()
def weight_norm(linear: nn.Linear) -> float:
    """‖W‖, summed in float32 whatever dtype it has."""
    return float(linear.weight.float().norm())


def delta_norm(part: LowRank) -> float:
    """‖s B A‖ without the product: ‖B A‖² = ⟨Bᵀ B, A Aᵀ⟩, both only [r, r]."""
    device = "cpu" if part.A.device.type == "mps" else part.A.device  # an Apple GPU has no float64
    A, B = (each.detach().to(device).double() for each in (part.A, part.B))
    square = float(((B.t() @ B) * (A @ A.t())).sum())
    return float(part.scaling * max(square, 0.0) ** 0.5)


def percent(share: float) -> str:
    """With two digits that count: 0.034 %, 3.6 %, 12 %."""
    digits = max(0, 1 - math.floor(math.log10(100 * share))) if share > 0 else 0
    return f"{100 * share:.{digits}f} %"

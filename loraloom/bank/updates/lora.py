"""LoRA: ΔW = s · B A, with s = lora_alpha / r, or lora_alpha / √r.

Source: Hu et al., 2021, https://arxiv.org/abs/2106.09685; √r: Kalajdzievski, 2023,
https://arxiv.org/abs/2312.03732.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from loraloom.bank.updates.lora_stack import LoraStack
from loraloom.bank.updates.low_rank import LowRank, low_rank_groups
from loraloom.bank.updates.update import ParameterGroup, Stack, Update
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.data.ownership import seed_for
from loraloom.recipe import LoraSettings


class Lora:
    """LoRA as a kind of adapter; `UpdateKind` documents each method."""

    tensor_names: tuple[str, ...] = ("lora_A", "lora_B")

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shapes of A [r, in] and B [out, r]."""
        return {"lora_A": (settings.r, linear.in_features), "lora_B": (linear.out_features, settings.r)}

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Draw A uniformly between -1/√in and 1/√in, and set B to zero, as PEFT does.

        This is the rule of He et al. with a = √5, the default of `nn.Linear`.
        """
        generator = torch.Generator().manual_seed(seed_for(seed, "A", module))
        bound = linear.in_features**-0.5
        A = torch.empty(settings.r, linear.in_features).uniform_(-bound, bound, generator=generator)
        return {"lora_A": A, "lora_B": torch.zeros(linear.out_features, settings.r)}

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> Update:
        """Make the part of an adapter from A and B."""
        return LowRank(
            tensors["lora_A"], tensors["lora_B"], settings.scaling, dropout=float(settings.lora_dropout)
        )

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return A and B in one group, or in two with LoRA+."""
        return low_rank_groups(settings)

    def gradient_change(self, parts: Mapping[str, Any]) -> Callable[[], None] | None:
        """Return None: gradients stay as they are."""
        return None

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> Stack:
        """Return the stack of a linear's adapters."""
        return LoraStack(updates, product_dtype(dtype, next(iter(updates.values())).A.device))

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether `peft_type` is `LORA`; variants of LoRA have it too, and are tried first."""
        return config.get("peft_type") == "LORA"

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return the settings, and A and B with `.weight` after their names, as in PEFT's files."""
        return settings, {f"{name}.weight": tensor for name, tensor in tensors.items()}

    def peft_values(self, settings: LoraSettings) -> dict[str, object]:
        """Return `peft_type`, rank, scale and dropout."""
        alpha = settings.lora_alpha
        values: dict[str, object] = {
            "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
            "lora_dropout": float(settings.lora_dropout),
            "peft_type": "LORA",
            "r": settings.r,
        }
        return {**values, "use_rslora": True} if settings.use_rslora else values

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """Read ranks, scales and dropout, and ignore the rest of the file."""
        return LoraSettings(
            r=config["r"],
            lora_alpha=config["lora_alpha"],
            lora_dropout=config.get("lora_dropout", 0.0),
            use_rslora=config.get("use_rslora", False),
            rank_pattern=config.get("rank_pattern", {}),
            alpha_pattern=config.get("alpha_pattern", {}),
            target_modules=list(target_modules),
        )

"""DoRA: W' = diag(m / ‖W + s B A‖) (W + s B A), whose rows have the trained lengths m.

The gradient treats the row norms ‖W + s B A‖ as constants, as in section 4.3 of the paper and in PEFT.

Source: Liu et al., 2024, https://arxiv.org/abs/2402.09353.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from loraloom.bank.updates.dora_part import DoraPart, row_norms
from loraloom.bank.updates.dora_stack import DoraStack
from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.low_rank import low_rank_groups
from loraloom.bank.updates.update import ParameterGroup
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.recipe import LoraSettings

MAGNITUDE = "lora_magnitude_vector"


class Dora(Lora):
    """DoRA as a kind of adapter; `UpdateKind` documents each method."""

    tensor_names = ("lora_A", "lora_B", MAGNITUDE)

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shapes of A [r, in], B [out, r], and the magnitudes [out]."""
        return {**super().shapes(settings, linear), MAGNITUDE: (linear.out_features,)}

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Start A and B as LoRA does, and the magnitudes as the norms of the rows of W."""
        low_rank = super().start(settings, linear, seed, module)
        A, B = (tensor.to(linear.dense().device) for tensor in low_rank.values())
        return {**low_rank, MAGNITUDE: row_norms(linear, A, B, settings.scaling)}

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> DoraPart:
        """Make the part of an adapter from A, B and the magnitudes."""
        A, B, magnitude = (tensors[end] for end in self.tensor_names)
        return DoraPart(A, B, magnitude, settings.scaling, dropout=float(settings.lora_dropout))

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return A, B and the magnitudes in one group; with LoRA+, B and the magnitudes in a second one."""
        return low_rank_groups(settings, with_b=(MAGNITUDE,))

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> DoraStack:
        """Return the stack of a linear's adapters."""
        device = next(iter(updates.values())).A.device
        return DoraStack(updates, product_dtype(dtype, device))

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether `peft_type` is `LORA` and `use_dora` is set."""
        return super().is_kind_of(config) and bool(config.get("use_dora"))

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return what LoRA returns, except that the magnitudes have names without `.weight`, as in PEFT."""
        settings, named = super().in_peft(settings, tensors)
        return settings, {
            name.removesuffix(".weight") if MAGNITUDE in name else name: t for name, t in named.items()
        }

    def peft_values(self, settings: LoraSettings) -> dict[str, object]:
        """Return LoRA's values and `use_dora`."""
        return {**super().peft_values(settings), "use_dora": True}

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """Read LoRA's settings, and set `use_dora`."""
        return super().settings_of(config, target_modules).model_copy(update={"use_dora": True})

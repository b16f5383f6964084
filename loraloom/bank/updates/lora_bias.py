"""LoRA whose B has a trained bias: y + s (B A x + b), PEFT's `lora_bias`.

b starts at zero, and neither dropout nor weight decay applies to it. It is merged into the bias of a linear,
so it cannot be merged into a linear without a bias, such as those of the T5 family.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.lora_stack import LoraStack, SpanGroup
from loraloom.bank.updates.low_rank import LowRank, low_rank_groups
from loraloom.bank.updates.update import Draw, ParameterGroup
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.recipe import LoraSettings

BIAS = "lora_B_bias"
IN_FILES = "lora_B.bias"


@dataclass(frozen=True)
class BiasedPart:
    """The part of one adapter with a trained bias in one linear.

    Args:
        low_rank: s B A.
        bias: b, [out], float32, trained; zero at the start.
    """

    low_rank: LowRank
    bias: nn.Parameter

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """A, B and b."""
        return {**self.low_rank.parameters, BIAS: self.bias}

    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute s · B A, [out, in], float32."""
        return self.low_rank.delta(linear)

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute s · B (A v), float64 [out, n]."""
        return self.low_rank.delta_times(linear, vectors)

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖(ΔW, s b)‖, where the bias counts as a column of the weights whose input is always 1."""
        return float(torch.tensor([self.low_rank.delta_norm(linear), float(self.delta_bias().norm())]).norm())

    def norm_bound(self) -> float:
        """Compute s · ‖A‖ ‖B‖."""
        return self.low_rank.norm_bound()

    def delta_bias(self) -> Tensor:
        """Compute s b, [out], float32."""
        return self.bias.detach() * self.low_rank.scaling


class LoraBias(Lora):
    """LoRA with a trained bias as a kind of adapter; `UpdateKind` documents each method."""

    tensor_names = ("lora_A", "lora_B", BIAS)

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shapes of A [r, in], B [out, r] and b [out]."""
        return {**super().shapes(settings, linear), BIAS: (linear.out_features,)}

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Start A and B as LoRA does, and b at zero."""
        return {**super().start(settings, linear, seed, module), BIAS: torch.zeros(linear.out_features)}

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> BiasedPart:
        """Make the part of an adapter from A, B and b."""
        A, B, bias = (tensors[end] for end in self.tensor_names)
        return BiasedPart(LowRank(A, B, settings.scaling, float(settings.lora_dropout)), bias)

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return LoRA's groups for A and B, and one for b, at B's learning rate and without weight decay."""
        rate = float(settings.loraplus_lr_ratio or 1)
        return (*low_rank_groups(settings), ParameterGroup((BIAS,), rate_factor=rate, decays=False))

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> BiasedStack:
        """Return the stack of a linear's adapters."""
        device = next(iter(updates.values())).bias.device
        return BiasedStack(updates, product_dtype(dtype, device))

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return whether `peft_type` is `LORA` and `lora_bias` is set."""
        return super().is_kind_of(config) and bool(config.get("lora_bias"))

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return the settings, and the tensors as PEFT names them: `lora_B.weight`, `lora_B.bias`, …."""
        biases = {name for name in tensors if name.endswith(f".{BIAS}")}
        settings, named = super().in_peft(settings, {n: t for n, t in tensors.items() if n not in biases})
        return settings, {**named, **{n.removesuffix(BIAS) + IN_FILES: tensors[n] for n in sorted(biases)}}

    def peft_values(self, settings: LoraSettings) -> dict[str, object]:
        """Return LoRA's values and `lora_bias`, which PEFT has supported since 0.14."""
        return {**super().peft_values(settings), "lora_bias": True}

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        """Read LoRA's settings, and set `lora_bias`."""
        return super().settings_of(config, target_modules).model_copy(update={"lora_bias": True})


class BiasedStack(LoraStack):
    """The adapters of one linear, each with a trained bias; `Stack` documents each method."""

    def __init__(self, updates: Mapping[str, BiasedPart], dtype: torch.dtype) -> None:
        super().__init__({slot: update.low_rank for slot, update in updates.items()}, dtype)
        self._biased = updates
        self.signature = ("bias", self.signature)

    def add(
        self,
        linear: FrozenLinear,
        x: Tensor,
        y: Tensor | None,
        groups: Sequence[SpanGroup],
        draw: Draw | None,
    ) -> Tensor:
        """Compute y + s · (B A dropout(x) + b) in the rows of each group."""
        y = super().add(linear, x, y, groups, draw)
        spans = [(span, self._biased[span.slot]) for own in groups for span in own.spans]
        rows = [(span.start, span.stop, update.low_rank.scaling) for span, update in spans]
        return _AddBiases.apply(y, rows, *(update.bias for _, update in spans))  # type: ignore[no-any-return, no-untyped-call]


class _AddBiases(torch.autograd.Function):
    """y + s b in some rows of y, in place, each span with its own b [out]."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rows: Sequence[tuple[int, int, float]], *biases: Tensor) -> Tensor:
        for (start, stop, scaling), bias in zip(rows, biases, strict=True):
            y[start:stop] += (bias * scaling).to(y.dtype)
        ctx.rows = rows
        ctx.mark_dirty(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums = (upstream[start:stop].sum((0, 1), dtype=torch.float32) * s for start, stop, s in ctx.rows)
        return upstream, None, *sums

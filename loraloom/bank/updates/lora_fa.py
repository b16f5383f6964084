"""LoRA-FA: LoRA whose A is frozen, so that no linear keeps its input for the backward pass.

With A frozen, the change of ΔW is closest to that of full fine-tuning if B moves along

    g (A Aᵀ)⁻¹ / s²

where g is the gradient of B after clipping. The optimizer gets this product instead of g, as in PEFT's
`create_lorafa_optimizer`, which multiplies in bfloat16 and uses its own AdamW, with an epsilon of 1e-6 that
is added before bias correction. Here the product is in float32 and AdamW is torch's.

Source: Zhang et al., 2023, https://arxiv.org/abs/2308.03303.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from loraloom.bank.updates.frozen_down import add_with_frozen_down
from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.lora_stack import LoraStack, SpanGroup
from loraloom.bank.updates.update import Draw, ParameterGroup, Update
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.recipe import LoraSettings

# As in PEFT: keeps the inverse finite if rows of A depend on each other.
RIDGE = 1e-8


class LoraFa(Lora):
    """LoRA-FA as a kind of adapter; `UpdateKind` documents each method. Its files are plain LoRA."""

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> Update:
        """Make the part of an adapter, and freeze A."""
        tensors["lora_A"].requires_grad_(False)
        return super().make(settings, tensors)

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        """Return a single group with B."""
        return (ParameterGroup(("lora_B",)),)

    def gradient_change(self, parts: Mapping[str, Any]) -> Callable[[], None]:
        """Return a function that multiplies B's gradients by (A Aᵀ)⁻¹ / s² before each optimizer step."""
        projections: list[tuple[nn.Parameter, Tensor]] = []
        for part in parts.values():
            A = part.A.detach()
            gram = A @ A.T + RIDGE * torch.eye(len(A), device=A.device)
            projections.append((part.B, torch.linalg.pinv(gram) / part.scaling**2))

        @torch.no_grad()
        def project() -> None:
            for B, projection in projections:
                if B.grad is not None:
                    B.grad.copy_(B.grad @ projection)

        return project

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> LoraFaStack:
        """Return the stack of a linear's adapters."""
        return LoraFaStack(updates, product_dtype(dtype, next(iter(updates.values())).A.device))

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return False, because folders of this kind are written as plain LoRA and read as such."""
        return False


class LoraFaStack(LoraStack):
    """The LoRA-FA adapters of one linear; `Stack` documents each method."""

    def add(
        self,
        linear: FrozenLinear,
        x: Tensor,
        y: Tensor | None,
        groups: Sequence[SpanGroup],
        draw: Draw | None,
    ) -> Tensor:
        """Compute y + s · B A dropout(x) in the rows of each group, without keeping x."""
        if not groups or not torch.is_grad_enabled():
            return super().add(linear, x, y, groups, draw)
        made = [self.group_of(x, own, draw) for own in groups]
        y = linear.product(x) if y is None else y
        return add_with_frozen_down(x, y, made, is_up_trained=True)

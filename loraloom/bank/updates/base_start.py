"""PiSSA and OLoRA: LoRA whose A and B start as the leading part of W, so that only the rest is frozen.

PEFT subtracts s B₀ A₀, the product at the start, from W. Here adapters share W, so each adapter adds the
negative of that product instead, as a second, frozen pair of factors (its twin):

    W' = W + s (B A + B₋ A₋)    with    A₋ = A₀ and B₋ = -B₀

In files, the adapter is plain LoRA of rank 2r, with the twin's A and B next to its own, as in PEFT's own
conversion (`path_initial_model_for_weight_conversion`). Dropout applies to the input of A but not to that of
A₋, because the twin stands for a change of W, and no dropout applies to the input of W.

Source: PiSSA: Meng et al., 2024, https://arxiv.org/abs/2404.02948; OLoRA: Büyükakyüz, 2024,
https://arxiv.org/abs/2406.01775.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from loraloom.bank.updates.frozen_down import add_with_frozen_down
from loraloom.bank.updates.lora import Lora
from loraloom.bank.updates.lora_stack import LoraStack, SpanGroup
from loraloom.bank.updates.low_rank import LowRank
from loraloom.bank.updates.update import Copies, Draw
from loraloom.base.device_and_dtype import product_dtype
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.data.ownership import seed_for
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.text.message import Message

TWIN_A, TWIN_B = "twin_A", "twin_B"


@dataclass(frozen=True)
class TwinPart:
    """The part of one adapter in one linear, with its frozen negative twin.

    Args:
        own: s B A, trained.
        twin: s B₋ A₋, of the same rank.
    """

    own: LowRank
    twin: LowRank

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """A and B of the adapter, and the frozen A₋ and B₋ of the twin."""
        return {**self.own.parameters, TWIN_A: self.twin.A, TWIN_B: self.twin.B}

    @property
    def whole(self) -> LowRank:
        """The adapter and its twin as one product of rank 2r."""
        A = torch.cat([self.own.A.detach(), self.twin.A.detach()])
        B = torch.cat([self.own.B.detach(), self.twin.B.detach()], dim=1)
        A, B = (nn.Parameter(tensor, requires_grad=False) for tensor in (A, B))
        return LowRank(A, B, self.own.scaling, self.own.dropout)

    def delta(self, linear: FrozenLinear) -> Tensor:
        """Compute s (B A + B₋ A₋), [out, in], float32."""
        return self.whole.delta(linear)

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        """Compute ΔW times some vectors, float64 [out, n]."""
        return self.whole.delta_times(linear, vectors)

    def delta_norm(self, linear: FrozenLinear) -> float:
        """Compute ‖ΔW‖."""
        return self.whole.delta_norm(linear)

    def norm_bound(self) -> float:
        """Compute s (‖A‖ ‖B‖ + ‖A₋‖ ‖B₋‖)."""
        return self.own.norm_bound() + self.twin.norm_bound()

    def delta_bias(self) -> None:
        """Return None: the bias of the linear stays as it is."""


class BaseStart(Lora):
    """PiSSA and OLoRA as a kind of adapter; `UpdateKind` documents each method."""

    tensor_names = ("lora_A", "lora_B", TWIN_A, TWIN_B)

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        """Return the shapes of A [r, in] and B [out, r], each for the adapter and for its twin."""
        own = super().shapes(settings, linear)
        return {**own, TWIN_A: own["lora_A"], TWIN_B: own["lora_B"]}

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        """Compute A and B from the base's weights, and a twin that makes ΔW zero.

        Raises:
            AdapterError: the rank is larger than the rank that the weights can have.
        """
        most = min(linear.in_features, linear.out_features)
        if settings.r > most:
            raise AdapterError(
                Message(
                    "init_lora_weights: {init} needs a rank no larger than that of the weights",
                    init=str(settings.init_lora_weights),
                ),
                where=module,
                found=f"r {settings.r}",
                allowed=Message("at most {most}", most=most),
                fix=Message("Lower lora.r, or set a lower rank for this module in lora.rank_pattern."),
            )
        A, B = _leading_part(settings, linear.dense().float(), seed_for(seed, "start", module))
        return {"lora_A": A, "lora_B": B, TWIN_A: A.clone(), TWIN_B: -B}

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> TwinPart:
        """Make the part of an adapter, and freeze its twin."""
        A, B, twin_a, twin_b = (tensors[end] for end in self.tensor_names)
        twin_a.requires_grad_(False)
        twin_b.requires_grad_(False)
        scaling, dropout = settings.scaling, float(settings.lora_dropout)
        return TwinPart(LowRank(A, B, scaling, dropout), LowRank(twin_a, twin_b, scaling, dropout=0.0))

    def stack(self, updates: Mapping[str, Any], dtype: torch.dtype) -> TwinStack:
        """Return the stack of a linear's adapters and their twins."""
        return TwinStack(updates, product_dtype(dtype, next(iter(updates.values())).own.A.device))

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        """Return False, because folders of this kind are written as plain LoRA and read as such."""
        return False

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return settings and tensors of a plain LoRA adapter of rank 2r with the same ΔW and scaling."""
        factor = 2**0.5 if settings.use_rslora else 2
        plain = settings.model_copy(
            update={
                "r": 2 * settings.r,
                "lora_alpha": factor * settings.lora_alpha,
                "rank_pattern": {key: 2 * r for key, r in settings.rank_pattern.items()},
                "alpha_pattern": {key: factor * alpha for key, alpha in settings.alpha_pattern.items()},
                "init_lora_weights": True,
            }
        )
        whole = {}
        for name in tensors:
            module, _, end = name.rpartition(".")
            if end == "lora_A":
                whole[name] = torch.cat([tensors[name], tensors[f"{module}.{TWIN_A}"]])
            elif end == "lora_B":
                whole[name] = torch.cat([tensors[name], tensors[f"{module}.{TWIN_B}"]], dim=1)
        return super().in_peft(plain, whole)


class TwinStack(LoraStack):
    """The adapters of one linear, and their twins; `Stack` documents each method."""

    def __init__(self, updates: Mapping[str, TwinPart], dtype: torch.dtype) -> None:
        super().__init__({slot: update.own for slot, update in updates.items()}, dtype)
        self._twins = LoraStack({slot: update.twin for slot, update in updates.items()}, dtype)

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        """Return the tensors to copy into, and those to copy from, for the adapters and their twins."""
        into, out_of = super().copies(owners, only_if_changed=only_if_changed)
        more_into, more_out_of = self._twins.copies(owners, only_if_changed=only_if_changed)
        return into + more_into, out_of + more_out_of

    def add(
        self,
        linear: FrozenLinear,
        x: Tensor,
        y: Tensor | None,
        groups: Sequence[SpanGroup],
        draw: Draw | None,
    ) -> Tensor:
        """Add s · B₋ A₋ x, and then s · B A dropout(x), in the rows of each group."""
        if groups and torch.is_grad_enabled():
            twins = [self._twins.group_of(x, own, None) for own in groups]
            y = linear.product(x) if y is None else y
            y = add_with_frozen_down(x, y, twins, is_up_trained=False)
        else:
            y = self._twins.add(linear, x, y, groups, None)
        return super().add(linear, x, y, groups, draw)


@torch.no_grad()
def _leading_part(settings: LoraSettings, weight: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return A [r, in] and B [out, r] that form the leading part of W.

    For PiSSA, s B A is the part of W with the r largest singular values. For OLoRA, B and A are the first r
    columns of Q and the first r rows of R, where W = Q R.
    """
    init, r = str(settings.init_lora_weights), settings.r
    if init == "olora":
        Q, R = torch.linalg.qr(weight)
        return R[:r].contiguous(), Q[:, :r].contiguous()
    if init == "pissa":
        U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[weight.device] if weight.is_cuda else []):
            torch.manual_seed(seed)
            U, S, V = torch.svd_lowrank(weight, r, niter=int(init.removeprefix("pissa_niter_")))
        Vh = V.T
    root = (S[:r] / settings.scaling).sqrt()
    return root[:, None] * Vh[:r], U[:, :r] * root

"""Why passes of a training are not recorded as CUDA graphs although `cuda_graphs` is set."""

from __future__ import annotations

from loraloom.bank.updates.kinds import LORA, kind_of
from loraloom.base.loading import Base
from loraloom.kernels.dispatch import HAS_TRITON
from loraloom.recipe import LoraSettings, SharedTraining
from loraloom.text.message import Message


def why_not_recorded(base: Base, shared: SharedTraining) -> Message | None:
    """Return why no pass over this base can be recorded, whatever the adapters; None if passes can be.

    Args:
        base: base on its device.
        shared: settings that all experiments share.
    """
    if base.device.type != "cuda":
        return Message("the base is not on a GPU that records CUDA graphs")
    if not HAS_TRITON:
        return Message("Triton is not installed")
    if not base.family.has_static_passes:
        return Message("passes of {family} models cannot be recorded", family=base.family.title)
    if base.quantization != "none":
        return Message("the base is quantized")
    if base.is_sharded:
        return Message("training.shard_base is set")
    if shared.gradient_checkpointing:
        return Message("training.gradient_checkpointing is set")
    if shared.base_dropout != 0:
        return Message("training.base_dropout is set")
    return None


def can_be_recorded(lora: LoraSettings) -> bool:
    """Return whether passes with adapters of these settings can be recorded.

    Groups of similar adapters (`bank/fused`) have one scale in all modules.
    """
    is_uniform = not (lora.rank_pattern or lora.alpha_pattern or lora.trains_beside_linears)
    return kind_of(lora) is LORA and is_uniform

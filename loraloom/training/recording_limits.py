"""Why passes of a training are not recorded as CUDA graphs although `cuda_graphs` is set."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.bank.updates.kinds import LORA, kind_of
from loraloom.base.loading import Base
from loraloom.kernels.dispatch import HAS_TRITON
from loraloom.recipe import Experiment, LoraSettings, SharedTraining
from loraloom.text.message import Message


def why_not_recorded(base: Base, shared: SharedTraining, experiments: Sequence[Experiment]) -> Message | None:
    """Return why no pass of this training can be recorded; None if passes can be recorded.

    Label smoothing is not among the reasons, because it keeps only the passes of its experiments from being
    recorded.

    Args:
        base: base on its device.
        shared: settings that all experiments share.
        experiments: experiments to train; one that cannot be recorded prevents the recording of all, because
            they share passes.
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
    if unlike := [each.name for each in experiments if not _is_plain_lora(each.lora)]:
        return Message("the lora settings of `{name}` need passes that cannot be recorded", name=unlike[0])
    return None


def _is_plain_lora(lora: LoraSettings) -> bool:
    # Groups of similar adapters (`bank/fused`) have one scale in all modules.
    is_uniform = not (lora.rank_pattern or lora.alpha_pattern or lora.trains_beside_linears)
    return kind_of(lora) is LORA and is_uniform

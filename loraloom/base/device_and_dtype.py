"""Where and in which dtype the frozen base is computed: chosen once, with the reason."""

from __future__ import annotations

import torch

from loraloom.errors import ModelError
from loraloom.run.documents.choice import Choice

# Below this, a step is dominated by overheads that bfloat16 does not shrink.
SMALL_MODEL_PARAMETERS = 50_000_000


def choose_device(wanted: str) -> Choice:
    """The device to compute on.

    Raises:
        ModelError: the device asked for is not there.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return Choice("cuda", f"a GPU is there: {torch.cuda.get_device_name()}")
        threads = f"{torch.get_num_threads()} threads"
        if torch.backends.mps.is_available():  # it has no float64, and no run of ours proves it
            return Choice(
                "cpu", f"{threads}; an Apple GPU is there, and was never tried: device: mps takes it"
            )
        return Choice("cpu", f"no GPU is there; {threads}")
    kind, _, index = wanted.partition(":")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise ModelError(
            "the device is not there",
            where="device",
            found=wanted,
            allowed=f"cpu, or one of {torch.cuda.device_count()} CUDA devices",
            fix="Set device: auto.",
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("the device is not there", where="device", found=wanted, fix="Set device: auto.")
    if kind == "mps":
        return Choice(wanted, "the recipe says so; LoRALoom was never run on an Apple GPU")
    return Choice(wanted, "the recipe says so")


def choose_dtype(wanted: str, device: torch.device, num_weights: int) -> Choice:
    """The dtype of the frozen base: bfloat16 where the hardware multiplies it, float32 otherwise.

    Args:
        num_weights: of the base, about.
    """
    if wanted != "auto":
        return Choice(wanted, "the recipe says so")
    if device.type == "cuda":
        # True by emulation on a T4, which is slower than float32: ask for the real thing.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bfloat16", "this GPU multiplies bfloat16")
        return Choice("float32", "this GPU has no bfloat16, and float16 overflows on T5-family models")
    if device.type == "mps":
        return Choice("float32", "bfloat16 on this GPU is not relied upon")
    if num_weights < SMALL_MODEL_PARAMETERS:
        return Choice("float32", f"the model is small (about {num_weights / 1e6:.0f} M weights)")
    capabilities = torch.cpu.get_capabilities()
    for unit in ("amx_bf16", "avx512_bf16"):
        if capabilities.get(unit):
            return Choice("bfloat16", f"this processor multiplies bfloat16 ({unit})")
    return Choice("float32", "this processor has no bfloat16 instructions")

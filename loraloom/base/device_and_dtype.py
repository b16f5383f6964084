"""Choice of the device and the dtype of the frozen base, each with a reason."""

from __future__ import annotations

import os

import torch

from loraloom.distributed.launch import Launch
from loraloom.errors import ModelError
from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message
from loraloom.text.units import counted

# Below this size, overheads that bfloat16 does not reduce dominate a step.
SMALL_MODEL_PARAMETERS = 50_000_000


def choose_device(wanted: str) -> Choice:
    """Choose the device to compute on.

    Args:
        wanted: the recipe's `device`: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ModelError: the requested device is not available.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return Choice(
                "cuda",
                Message(
                    "a GPU is available: {get_device_name}", get_device_name=torch.cuda.get_device_name()
                ),
            )
        threads = counted(torch.get_num_threads(), "thread")
        if torch.backends.mps.is_available():  # it has no float64, and no run has been tested on it
            return Choice(
                "cpu",
                Message(
                    "{threads}; an Apple GPU is available but untested; set device: mps to use it",
                    threads=threads,
                ),
            )
        return Choice("cpu", Message("no GPU is available; {threads}", threads=threads))
    kind, _, index = wanted.partition(":")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise ModelError(
            Message("the device is not available"),
            where="device",
            found=wanted,
            allowed=Message(
                "cpu, or one of {device_count} CUDA devices", device_count=torch.cuda.device_count()
            ),
            fix=Message("Set device: auto."),
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError(
            Message("the device is not available"),
            where="device",
            found=wanted,
            fix=Message("Set device: auto."),
        )
    if kind == "mps":
        return Choice(wanted, Message("as set in the recipe; LoRALoom is untested on Apple GPUs"))
    return Choice(wanted, Message("as set in the recipe"))


def rank_device(wanted: str, launch: Launch) -> str:
    """Return the device of a rank: a GPU of its own if GPUs are used, otherwise `wanted`.

    A process that runs alone always gets `wanted`.

    Rank i of a machine uses GPU i, even if `wanted` names another index. Some schedulers show each process
    only one GPU, a different one for each process; then the rank uses this GPU, whatever its local rank is.

    Args:
        wanted: as in `choose_device`.
        launch: how this process was started.

    Raises:
        ModelError: the machine has more ranks than GPUs.
    """
    is_gpu = wanted.partition(":")[0] == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    if launch.is_alone or not is_gpu:
        return wanted
    if torch.cuda.device_count() == 1 and len(shown_gpus()) == 1:
        torch.cuda.set_device(0)
        return str(torch.device("cuda", 0))
    if launch.local_size > torch.cuda.device_count():
        raise ModelError(
            Message("there are more processes on this machine than GPUs"),
            where="--nproc-per-node",
            found=str(launch.local_size),
            allowed=str(torch.cuda.device_count()),
            fix=Message("Start as many processes as there are GPUs, or set device: cpu."),
        )
    torch.cuda.set_device(launch.local_rank)
    return str(torch.device("cuda", launch.local_rank))


def shown_gpus() -> list[str]:
    """Return the GPUs that `CUDA_VISIBLE_DEVICES` lists; an empty list if it is not set."""
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]


def choose_dtype(wanted: str, device: torch.device, num_weights: int) -> Choice:
    """Choose the dtype of the frozen base; `auto` is bfloat16 if the hardware supports it, otherwise float32.

    On a CPU, `auto` is float32 for a small model; on an Apple GPU, it is always float32.

    Args:
        num_weights: approximate number of weights of the base.
    """
    if wanted != "auto":
        return Choice(wanted, Message("as set in the recipe"))
    if device.type == "cuda":
        # A T4 emulates bfloat16, slower than float32, so hardware support is required.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Choice("bfloat16", Message("this GPU has bfloat16 arithmetic"))
        return Choice(
            "float32",
            Message("this GPU has no bfloat16 arithmetic, and float16 overflows in T5-family models"),
        )
    if device.type == "mps":
        return Choice("float32", Message("bfloat16 is untested on this GPU"))
    if num_weights < SMALL_MODEL_PARAMETERS:
        return Choice(
            "float32",
            Message(
                "the model is small (about {num_weights:.0f} M weights)", num_weights=num_weights / 1000000.0
            ),
        )
    capabilities = torch.cpu.get_capabilities()
    for unit in ("amx_bf16", "avx512_bf16"):
        if capabilities.get(unit):
            return Choice("bfloat16", Message("this CPU has bfloat16 instructions ({unit})", unit=unit))
    return Choice("float32", Message("this CPU has no bfloat16 instructions"))


def product_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Return the dtype in which a linear's adapters are computed: float32 on a CPU, else `dtype`.

    In bfloat16, oneDNN takes 0.04 ms for a product of a shape that it has seen, and 0.5 to 1 ms for a new
    shape; nearly every batch brings new lengths. In float32, any shape takes 0.06 ms, and the parameters need
    no conversion.
    """
    return torch.float32 if device.type == "cpu" else dtype

"""Memory that runs out: how it shows, and how what had been begun is let go of."""

from __future__ import annotations

import ctypes
import gc

import torch

# The processor's allocator, CUDA's driver and CUDA's libraries each say it in their own words.
SIGNS = ("allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: only some are of a type of their own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def release_memory() -> None:
    """Give what no tensor holds any more back to the device, and to the system.

    Call it outside of the handler: the error's traceback holds the activations of the pass that failed.
    """
    gc.collect()
    _trim_heap()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _trim_heap() -> None:
    """glibc keeps what was freed below the top of its heap (after the gate, as much as a training pass)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return

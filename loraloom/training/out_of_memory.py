"""Recognition of out-of-memory errors, and release of the memory that they leave allocated."""

from __future__ import annotations

import ctypes
import gc

import torch

# The CPU's allocator, CUDA's driver and CUDA's libraries each use their own wording.
SIGNS = ("allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is due to a lack of memory, by its type or by the words of its message."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def release_memory() -> None:
    """Release memory that no tensor uses any more, on the device and in the process.

    Call it outside of the `except` block: inside, the error's traceback keeps the failed pass's activations
    alive.
    """
    gc.collect()
    _trim_heap()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _trim_heap() -> None:
    """Give free memory in glibc's heap back to the system.

    After the checks that precede training, it is as much memory as a pass needs.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return

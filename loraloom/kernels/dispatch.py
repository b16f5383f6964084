"""The choice between Triton and torch for a tensor's operations."""

from __future__ import annotations

from importlib.util import find_spec

from torch import Tensor

HAS_TRITON = find_spec("triton") is not None  # torch for Windows comes without Triton


def by_triton(x: Tensor) -> bool:
    """Return whether to use this package's Triton kernels for x: it is on a GPU, and Triton is installed."""
    return x.is_cuda and HAS_TRITON

"""Limits on the caches in which oneDNN keeps a compiled kernel for every shape it has computed.

Batches have rows of any length, so nearly every step brings new shapes, and the two caches (oneDNN's own,
and that of ideep between it and torch) hold 1,024 entries each. In bfloat16 on a CPU, where every product
uses these caches, the memory of a training run on the starter grew from 0.4 to 0.7 GiB within 80 steps and
was still growing; with 64 entries it stays constant, and the steps take no more time.
"""

from __future__ import annotations

import os

ENTRIES = "64"
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_kernel_caches() -> None:
    """Limit the caches, unless the user has set them; call this before the first matrix product."""
    for variable in VARIABLES:
        os.environ.setdefault(variable, ENTRIES)

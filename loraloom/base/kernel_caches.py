"""Bounds for what oneDNN remembers: a compiled kernel for every shape it has seen.

Rows of a batch are as long as they are, so nearly every step brings shapes that were never seen, and the
two caches (oneDNN's own, and that of ideep between it and torch) hold 1,024 entries each. In bfloat16 on
a CPU, where every product goes through them, the memory of a training on the starter grew from 0.4 to
0.7 GiB within 80 steps, and was still growing; with 64 entries it stays flat, and takes no more time.
"""

from __future__ import annotations

import os

ENTRIES = "64"
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_kernel_caches() -> None:
    """Call it before the first product; what the user has set stays."""
    for variable in VARIABLES:
        os.environ.setdefault(variable, ENTRIES)

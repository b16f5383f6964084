"""What makes a process of the tests faster without changing what it does."""

from __future__ import annotations

import gc
import os


def skip_waiting_for_disk() -> None:
    """Let `os.fsync` return at once: a killed process loses nothing that it wrote; only a power cut would.

    Power cuts are simulated (`faults/instruments.py`), and which calls are made is still seen by tests that
    replace `os.fsync`.
    """
    os.fsync = os.fstat  # type: ignore[assignment]  # an invalid descriptor is still an error


def exempt_imports_from_collection() -> None:
    """Keep the garbage collector from visiting the libraries' million objects in each full collection."""
    gc.collect()
    gc.freeze()

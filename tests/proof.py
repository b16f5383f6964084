"""The proof of a merge without its fresh process, which takes seconds to import transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loraloom.export import fresh_process
from loraloom.training.signals import StopRequest


def measure_here(model: Path, proof: Path, stop: StopRequest) -> Any:
    """As `run_fresh_process`, which `commands/test_merge.py` tests, but in this process."""
    return fresh_process.measure(model, proof)

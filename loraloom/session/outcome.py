"""How a run ended, as result.json has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from loraloom.forecast.available_memory import peak_process_bytes
from loraloom.training.state import Progress


def experiment_outcome(progress: Progress) -> dict[str, Any]:
    """How an experiment ended."""
    return {k: v for k, v in asdict(progress).items() if k != "evaluations_without_improvement"}


def run_outcome(experiments: Mapping[str, Any], num_steps: int, seconds: float) -> dict[str, Any]:
    """What a run came to, and what it took.

    Args:
        experiments: an entry for each.
        num_steps: of the whole run.
        seconds: since its workflow began.
    """
    return {
        "experiments": dict(experiments),
        "steps": num_steps,
        "wall_seconds": round(seconds, 2),
        "peak_bytes": peak_process_bytes(),
    }

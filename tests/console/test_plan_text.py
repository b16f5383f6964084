"""The plan in words, on screens of every width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from loraloom.console.plan_text import LABEL_WIDTH, plan_lines, trains
from loraloom.run.documents.prediction import Prediction

AS_JSON: dict[str, Any] = {
    "waves": [["narrow", "wide"]],
    "memory": {
        "peak_bytes": 3 * 2**30,
        "loaded_bytes": 2 * 2**30,
        "base_bytes": 2**30,
        "phase": "training",
        "parts": {"activations": 600 * 2**20, "adapters": 424 * 2**20, "best adapters": 0},
        "free_bytes": 8 * 2**30,
    },
    "pace": {"step_seconds": 1.0, "tokens_per_second": 100.0, "epoch_seconds": 80.0, "seconds": 7500.0},
    "disk": {"checkpoint_bytes": 12 * 2**20, "num_kept": 2, "free_bytes": 10 * 2**30},
}
PLAN = TypeAdapter(Prediction).validate_python(AS_JSON)


def test_every_subject_is_said_once_with_its_figures() -> None:
    text = " ".join(" ".join(plan_lines(PLAN, 200)).split())
    assert text.startswith("plan trains narrow, wide together, in one wave memory 3.0 GiB at the peak:")
    assert "2.0 GiB already loaded (base 1.0 GiB) and 1.0 GiB more for training" in text
    assert "(activations 600 MiB, adapters 424 MiB); 8.0 GiB free" in text  # what takes nothing is left out
    assert "time about 2 h 5 min for the steps (1 min 20 s per epoch)" in text
    assert "disk at most 12 MiB per checkpoint, 2 kept; 10 GiB free" in text


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = plan_lines(PLAN, width)
    assert max(map(len, lines)) <= width
    whole = [word for line in plan_lines(PLAN, 200) for word in line.split()]
    assert [word for line in lines for word in line.split()] == whole
    continued = [line for line in lines[1:] if line[:LABEL_WIDTH].strip() == ""]
    assert continued or width == 100


def test_a_step_that_was_not_timed_is_said() -> None:
    text = " ".join(plan_lines(replace(PLAN, pace=None), 200))
    assert "time   unknown, because no step was timed before the run was stopped" in text


def test_waves_are_numbered_and_long_ones_are_cut() -> None:
    names = [f"e{number}" for number in range(7)]
    assert trains([["main"]]) == "main"
    assert trains([names]) == "e0, e1, e2, e3 and 3 more together, in one wave"
    assert trains([["a", "b"], ["c"]]).endswith("not all experiments fit in memory at once: 1. a, b; 2. c")

"""Killed at any moment, a run goes on and ends with the very bytes of a run that nothing disturbed.

A dozen moments in the suite. `LORALOOM_FAULTS=200 pytest tests/faults` puts it through as many as
that, each drawn from its own number, so that a failure can be run again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.run.folder import Run
from tests.faults.reference import STEP, Reference, at_operation, newest_step
from tests.faults.training import SAVE_STEPS, events

NUM_MOMENTS = int(os.environ.get("LORALOOM_FAULTS", "12"))
MEANING = "resumes to the same bytes; at most one save interval is computed again"
NUM_OPTIMIZER_STEPS = 16
OUTSIDE_SAVES = (
    ("loraloom.session.material:load_base", 1),
    ("loraloom.checks.gate:batch_of", 1),
    ("loraloom.training.held_out:eval_losses", 4),
    (STEP, NUM_OPTIMIZER_STEPS),
    (STEP, NUM_OPTIMIZER_STEPS),
    ("loraloom.training.membership:export", 3),
)


def moment(number: int, reference: Reference, run: Path) -> dict[str, Any]:
    """Where to die: inside a save for even numbers, elsewhere for odd ones."""
    draw = random.Random(number)
    if number % 2:
        name, most = OUTSIDE_SAVES[number // 2 % len(OUTSIDE_SAVES)]
        how = draw.choice(["before", "after"])
        return {"call": name, "number": draw.randint(1, most), "how": how}
    in_saves = [n for n, line in enumerate(reference.operations, 1) if " checkpoints/" in line]
    operation, how = draw.choice(in_saves), draw.choice(["before", "half"])
    return at_operation(run, operation, how=how, is_power_cut=number % 4 == 0)


def assert_said_where(run: Path, newest: int) -> None:
    """The log says after which step the resume began: the newest checkpoint's, or 0."""
    assert events(run, "resume")[-1]["step"] == newest


@pytest.mark.parametrize("number", range(NUM_MOMENTS))
def test_killed_anywhere_it_resumes_to_the_same_bytes(
    number: int,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    expected = reference("in waves" if number % 3 == 0 else "together")
    run = tmp_path / "run"
    how = "outside of saves" if number % 2 else "inside of saves, half of them with a power cut"
    trying(f"SIGKILL {how}", 1, MEANING)
    faults = moment(number, expected, run)
    killed = expected.train(run, **faults)
    assert killed.code == -signal.SIGKILL, killed.stderr
    if number % 4 == 1:  # and once more, while it resumes
        again = expected.resume(run, call=STEP, number=2, how="after")
        assert again.code in (-signal.SIGKILL, 0), again.stderr
    had_begun, newest = Run(run).events_file.exists(), newest_step(run)
    assert max((event["step"] for event in events(run, "train")), default=0) - newest <= SAVE_STEPS
    ended = expected.assert_goes_on(run, is_log_whole=not faults.get("is_power_cut"))
    if had_begun or newest:
        assert_said_where(run, newest)
        assert f"resuming after step {newest}" in ended.stderr
    assert not [*Run(run).checkpoints.glob(".*"), *Run(run).adapters.glob(".*")]


@pytest.mark.parametrize("number", range(NUM_MOMENTS // 4))
def test_killed_from_outside_at_any_time(
    number: int,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    trying("SIGKILL from outside, at any time", 1, MEANING)
    expected, run = reference("together"), tmp_path / "run"
    started = expected.start(run)
    started.until((run / "provenance.json").exists)
    time.sleep(random.Random(number).uniform(0, 0.4))
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait().code in (-signal.SIGKILL, 0)
    expected.assert_goes_on(run)


def test_killed_again_inside_a_save_of_the_resume(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    expected.train(run, call=STEP, number=9)
    # 1 replaces nothing, so that the first save of the resume is met somewhere from 30 operations on.
    for operation in (30, 60):
        killed = expected.resume(run, **at_operation(run, operation, how="half"))
        assert killed.code == -signal.SIGKILL, killed.stderr
    expected.assert_goes_on(run)


@pytest.mark.parametrize("operation", [2, 6, 12, 18])
def test_killed_while_the_run_is_made_it_can_begin_anew(
    operation: int, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    assert expected.train(run, **at_operation(run, operation)).code == -signal.SIGKILL
    refused = expected.resume(run)
    assert refused.code == 1
    assert "was interrupted while it was being created" in refused.stderr
    assert f"loraloom train RECIPE --out {run}" in refused.stderr
    assert expected.train(run).code == 0
    expected.assert_same(run)

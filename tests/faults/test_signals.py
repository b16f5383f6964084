"""SIGINT and SIGTERM: the step is finished and saved, the exit code says so, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Reference
from tests.faults.test_kills import STEP, assert_fruits, resume
from tests.faults.training import events
from tests.faults.warm import Started, Warm


def held(warm: Warm, reference: Reference, run: Path, call: str, number: int) -> Started:
    """A training that waits at a call until `release`."""
    reached, go = run.parent / "reached", run.parent / "go"
    faults = {"call": call, "number": number, "reached": str(reached), "go": str(go)}
    started = warm.start("train", reference.recipe, "--out", run, cwd=run.parent, faults=faults)
    started.until(reached.exists)
    return started


def release(run: Path) -> None:
    (run.parent / "go").touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_and_saved(
    number: signal.Signals, warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = held(warm, expected, run, STEP, 5)
    os.kill(started.pid, number)
    release(run)
    ended = started.wait()
    assert ended.code == 128 + number
    assert ended.stdout == ""
    step = events(run, "save")[-1]["step"]
    assert f"stopped and saved after step {step}" in ended.stderr
    assert f"--resume {run} " in ended.stderr.splitlines()[-1]
    resumed = resume(warm, expected, run)
    assert resumed.code == 0, resumed.stderr
    assert events(run, "resume")[-1]["step"] == step
    assert_fruits(run, expected)


@pytest.mark.parametrize("call", ["prepare:load_base", "train:run_gate", "train:make_plan"])
def test_before_the_first_step(
    call: str, warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = held(warm, expected, run, f"loraloom.workflows.{call}", 1)
    os.kill(started.pid, signal.SIGTERM)
    release(run)
    ended = started.wait()
    assert ended.code == 143
    assert "before the first step" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert resume(warm, expected, run).code == 0
    assert_fruits(run, expected)


def test_a_second_signal_ends_at_once(
    warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = held(warm, expected, run, STEP, 5)
    os.kill(started.pid, signal.SIGTERM)
    os.kill(started.pid, signal.SIGINT)  # never released: had it waited for the step, this would hang
    assert started.wait().code in (130, 143)  # the kernel may deliver the two in either order
    assert not events(run, "save") or events(run, "save")[-1]["step"] < 3
    assert resume(warm, expected, run).code == 0
    assert_fruits(run, expected)


def test_a_second_process_is_refused_at_once_and_told_who_holds_the_run(
    warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = held(warm, expected, run, STEP, 5)
    before = (run / "events.jsonl").read_bytes()
    for option in ("--resume", "--out"):
        refused = warm.call("train", expected.recipe, option, run, cwd=tmp_path)
        assert refused.code == 1
        assert f"another process works on this run (pid {started.pid})" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert (run / "events.jsonl").read_bytes() == before
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert resume(warm, expected, run).code == 0  # the lock died with its holder
    assert_fruits(run, expected)

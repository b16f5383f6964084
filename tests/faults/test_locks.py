"""One process at a time on one run; the lock dies with its process, whoever lives on."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.reference import STEP, Reference, is_long


@pytest.mark.parametrize("number", range(50 if is_long() else 2))
def test_of_two_processes_on_one_run_exactly_one_works(
    number: int,
    reference: Callable[[str], Reference],
    interrupted: Callable[[str], Path],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    """Begun together: by --out on a new folder for even numbers, by --resume for odd ones."""
    trying("two processes on one run", 1, "one works; the other leaves at once and names its pid")
    expected, run = reference("together"), tmp_path / "run"
    option = "--resume" if number % 2 else "--out"
    if number % 2:
        shutil.copytree(interrupted("together"), run)
    pair = [expected.start(run, option=option) for _ in range(2)]
    ended = [each.wait() for each in pair]
    assert sorted(each.code for each in ended) == [0, 1], [each.stderr for each in ended]
    winner = 0 if ended[0].code == 0 else 1
    assert f"another process is using this run (pid {pair[winner].pid})" in ended[1 - winner].stderr
    assert "Traceback" not in ended[1 - winner].stderr
    expected.assert_same(run)


def test_a_process_that_comes_later_is_refused_and_changes_nothing(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = expected.held(run, STEP, 5)
    before = (run / "events.jsonl").read_bytes()
    for option in ("--resume", "--out"):
        refused = expected.start(run, option=option).wait()
        assert refused.code == 1
        assert f"another process is using this run (pid {started.pid})" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert (run / "events.jsonl").read_bytes() == before
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert expected.resume(run).code == 0  # the lock died with its holder
    expected.assert_same(run)


def test_a_worker_that_outlives_its_process_does_not_keep_the_lock(
    reference: Callable[[str], Reference], tmp_path: Path, trying: Callable[..., None]
) -> None:
    trying("a worker outlives its killed process", 1, "the lock is free at once")
    expected, run, worker = reference("together"), tmp_path / "run", tmp_path / "worker"
    killed = expected.train(run, call=STEP, number=9, worker=str(worker))
    assert killed.code == -signal.SIGKILL
    pid = int(worker.read_text())
    try:
        os.kill(pid, 0)  # it lives
        ended = expected.resume(run)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert ended.code == 0, ended.stderr
    expected.assert_same(run)

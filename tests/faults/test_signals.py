"""SIGINT and SIGTERM in every phase: out within the grace period, the exit code says so, nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.reference import STEP, Reference, is_long, release
from tests.faults.training import events
from tests.faults.warm import REPOSITORY

# Kubernetes sends SIGKILL 30 seconds after SIGTERM by default; this machine may be busy with other tests.
GRACE_SECONDS = 30.0


class Phase(NamedTuple):
    """Where a training is held while the signal comes.

    Args:
        call: a function, and which of its calls.
        said: what the message says.
    """

    call: str
    number: int
    said: str


BEFORE, SAVED = "stopped before the first step", "stopped and saved after step"
PHASES = {
    "reading the recipe": Phase("loraloom.recipe.reading:read_recipe_with_notes", 1, "before it finished"),
    "making the run": Phase("loraloom.session.run_session:create_run", 1, BEFORE),
    "loading": Phase("loraloom.session.material:load_base", 1, BEFORE),
    "checking": Phase("loraloom.checks.gate:_batch", 1, BEFORE),
    "planning": Phase("loraloom.commands.train:make_plan", 1, BEFORE),
    "the first step": Phase("loraloom.training.loop:step_losses", 1, SAVED),
    "a pass": Phase("loraloom.training.passes:span_losses", 4, SAVED),
    "between two micro-batches": Phase("loraloom.training.passes:span_losses", 5, SAVED),
    "an optimizer step": Phase(STEP, 5, SAVED),
    "an evaluation": Phase("loraloom.evaluate.loss:example_losses", 1, SAVED),
    "a later evaluation": Phase("loraloom.evaluate.loss:example_losses", 4, SAVED),
    "an answer": Phase("loraloom.bank.top_token:all_logits", 3, SAVED),
    "measuring what was forgotten": Phase("loraloom.training.membership:measure_forgetting", 1, SAVED),
    "a save": Phase("loraloom.training.checkpoint:_write", 2, SAVED),
    "an export": Phase("loraloom.training.membership:export", 1, SAVED),
}

TOLD_APART = ("loading", "between two micro-batches", "an evaluation", "an answer", "a save")
MOMENTS = [
    (phase, number)
    for phase in PHASES
    for number in (signal.SIGINT, signal.SIGTERM)
    if is_long() or (phase in TOLD_APART and (len(phase) + number) % 2)
]


def go_on(expected: Reference, run: Path) -> None:
    """By --resume where there is something to go on with, or anew as the message says."""
    has_begun = (run / "provenance.json").exists()
    ended = expected.resume(run) if has_begun else expected.train(run)
    assert ended.code == 0, ended.stderr
    expected.assert_same(run)


@pytest.mark.parametrize(("phase", "number"), MOMENTS)
def test_out_within_the_grace_period_and_resumed_bit_for_bit(
    phase: str,
    number: signal.Signals,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    trying(f"{number.name} in every phase", 1, "out within 30 s with 130 or 143; resumes to the same bytes")
    expected, run = reference("together"), tmp_path / "run"
    started = expected.held(run, PHASES[phase].call, PHASES[phase].number)
    os.kill(started.pid, number)
    begun = time.monotonic()
    release(run)
    ended = started.wait()
    assert time.monotonic() - begun < GRACE_SECONDS
    assert ended.code == 128 + number, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert PHASES[phase].said in last
    if PHASES[phase].said == SAVED:
        step = events(run, "save")[-1]["step"]
        assert f"{SAVED} {step};" in last
        assert f"--resume {run}`" in last
    go_on(expected, run)
    if PHASES[phase].said == SAVED:
        assert events(run, "resume")[-1]["step"] == step


def test_after_the_last_step_the_result_is_written_all_the_same(
    reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    started = expected.held(run, "loraloom.commands.train:record_finished", 1)
    os.kill(started.pid, signal.SIGTERM)
    release(run)
    assert started.wait().code == 0
    expected.assert_same(run)


@pytest.mark.parametrize(
    "phase", ["loading", "a pass", "an evaluation", "a save"] if is_long() else ["a save"]
)
def test_a_second_signal_ends_at_once(
    phase: str,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    trying("a second signal", 1, "out at once; resumes to the same bytes")
    expected, run = reference("together"), tmp_path / "run"
    started = expected.held(run, PHASES[phase].call, PHASES[phase].number)
    os.kill(started.pid, signal.SIGTERM)
    os.kill(started.pid, signal.SIGINT)  # never released: had it waited for anything, this would hang
    assert started.wait().code in (130, 143)  # the kernel may deliver the two in either order
    go_on(expected, run)


@pytest.mark.parametrize("moment", range(20 if is_long() else 1))
def test_a_signal_while_the_program_itself_is_being_loaded(
    moment: int, reference: Callable[[str], Reference], tmp_path: Path, trying: Callable[..., None]
) -> None:
    """A process of its own, which imports torch and all: one line, no traceback, nothing begun."""
    trying("SIGINT or SIGTERM while the program is loaded", 1, "out with one line, nothing begun")
    draw = random.Random(moment)
    number = draw.choice([signal.SIGINT, signal.SIGTERM])
    command = [sys.executable, "-c", "from loraloom.cli import main; print(flush=True); main()"]
    process = subprocess.Popen(
        [*command, "train", str(reference("together").recipe), "--out", str(tmp_path / "run")],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()  # the interpreter is up: before this it is Python that answers
    time.sleep(draw.uniform(0.05, 1.0))
    process.send_signal(number)
    _, stderr = process.communicate(timeout=GRACE_SECONDS)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("stopped ")

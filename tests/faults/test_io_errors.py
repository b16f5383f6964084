"""A full disk and a failing one: said as an error of ours, and the run goes on once there is room."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loraloom.errors import CheckpointError
from loraloom.run.folder import Run
from loraloom.training.checkpoint import newest_valid, save_checkpoint
from tests.faults.reference import STEP, Reference, at_operation, is_long, sound_tick, tried
from tests.training.test_checkpoint import state_at

MEANING = "an error that says it; the last good checkpoint serves; resumes to the same bytes"
NUM_PARTS = 40  # of all fsyncs, by `make faults`


@pytest.mark.parametrize("where", ["state.json", "events.jsonl", "adapters/.long.new", "result.json"])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(
    where: str,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    trying("disk full", 1, MEANING)
    expected, run = reference("together"), tmp_path / "run"
    at = [n for n, line in enumerate(expected.operations, 1) if where in line]
    ended = expected.train(run, **at_operation(run, at[len(at) // 3], how="full"))
    assert ended.code == 1
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    expected.assert_goes_on(run)


def fsyncs(reference: Reference) -> list[int]:
    """Every fsync of the training once it has begun: of files and folders of saves, adapters and results."""
    begun = next(n for n, line in enumerate(reference.operations) if "checkpoints/" in line)
    return [
        number
        for number, line in enumerate(reference.operations, 1)
        if number > begun and line.startswith("fsync")
    ]


def is_of_a_removal(reference: Reference, number: int) -> bool:
    """Whether an fsync is of the removal of an old checkpoint: the save has succeeded, and stays so."""
    before = reference.operations[number - 2]
    return before.startswith("rename") and before.endswith(".old")


@pytest.mark.parametrize("part", range(NUM_PARTS if is_long() else 2))
def test_an_fsync_that_fails_is_said_and_the_run_goes_on(
    part: int,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    expected = reference("together")
    numbers = tried(fsyncs(expected), part, NUM_PARTS)
    trying("an fsync fails with an I/O error", len(numbers), MEANING)
    for number in numbers:
        run = tmp_path / f"run-{number}"
        ended = expected.train(run, **at_operation(run, number, how="broken"))
        if is_of_a_removal(expected, number):
            assert ended.code == 0, ended.stderr
        else:
            assert ended.code == 1, expected.operations[number - 2 : number]
            assert "Input/output error" in ended.stderr
        assert "Traceback" not in ended.stderr
        expected.assert_goes_on(run)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=False)


def fill(disk: Path) -> Path:
    """Take all the room there is."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free < 4096
    return filler


def test_a_small_disk_that_fills_up(
    reference: Callable[[str], Reference],
    small_disk: Path,
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    """A real one: somebody else takes the room while the training runs."""
    trying("a small disk fills up", 1, MEANING)
    expected, run = reference("together"), small_disk / "run"
    reached, go = tmp_path / "reached", tmp_path / "go"  # on the other disk, which has room
    started = expected.start(run, call=STEP, number=12, reached=str(reached), go=str(go))
    started.until(reached.exists)
    filler = fill(small_disk)
    go.touch()
    ended = started.wait()
    assert ended.code == 1, ended.stderr
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    state, _ = newest_valid(Run(run).checkpoints)
    assert state is not None
    again = expected.resume(run)
    assert again.code == 1  # there still is no room, and it says so
    assert "Traceback" not in again.stderr
    filler.unlink()
    expected.assert_goes_on(run, is_log_whole=False)


def save_with_broken_fsync(folder: Path, failing: int) -> int:
    """Save tick 15 on a disk of which one fsync fails, 0 for none; gives how many there were."""
    num_calls, fsync = 0, os.fsync

    def broken(descriptor: int) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        save_checkpoint(folder, state_at(15), keep=1)
    return num_calls


def test_every_fsync_of_a_save_that_fails(tmp_path: Path) -> None:
    """Whichever it is: the older checkpoint is as it was, and the next save succeeds."""
    save_checkpoint(tmp_path / "0", state_at(10), keep=1)
    total = save_with_broken_fsync(tmp_path / "0", 0)
    assert total > 10
    for failing in range(1, total):  # the last is of the removal of the old one: the save has succeeded
        folder = tmp_path / str(failing)
        save_checkpoint(folder, state_at(10), keep=1)
        with pytest.raises(CheckpointError, match="Input/output error"):
            save_with_broken_fsync(folder, failing)
        assert sound_tick(folder) in (10, 15)
        save_checkpoint(folder, state_at(15), keep=1)
        assert sound_tick(folder) == 15
    save_with_broken_fsync(tmp_path / "0", total)

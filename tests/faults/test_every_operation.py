"""A crash at every file operation of a save, and a second one while that is recovered from.

In a child for each: `save_checkpoint` on a small state, which dies at the n-th thing it does to a file,
by SIGKILL or with a power cut, which takes back what no fsync covered.
"""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from loraloom.run.atomic import remove_remnants
from loraloom.training.checkpoint import save_checkpoint
from tests.faults.instruments import FileOperations
from tests.faults.reference import Reference, at_operation, is_long, sound_tick, tried
from tests.training.test_checkpoint import state_at

CRASHES = {
    "killed before": ("before", False),
    "killed half way": ("half", False),
    "power cut": ("before", True),
}
MEANING = "the last checkpoint or the one before it, bit for bit; the next save succeeds"
NUM_PARTS = 60  # of all operations of a save in a whole training, by `make faults`


def in_child(act: Callable[[], object]) -> int:
    """The exit code of a child that does this, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Saves:
    """A folder with the checkpoints of ticks 5 and 10, in which 15 is saved, and 15 again after a crash.

    Args:
        folder: the run's `checkpoints`.
        keep: save_total_limit.
    """

    folder: Path
    keep: int

    def begin(self) -> None:
        for tick in (5, 10):
            save_checkpoint(self.folder, state_at(tick), keep=self.keep)

    def crash(self, operation: int, how: str, act: Callable[[], object]) -> int:
        def instrumented() -> None:
            log = self.folder.with_name("log")
            name, is_power_cut = CRASHES[how]
            FileOperations(self.folder, log, operation, name, is_power_cut=is_power_cut).install()
            act()

        return in_child(instrumented)

    def save(self) -> None:
        save_checkpoint(self.folder, state_at(15), keep=self.keep)

    def recover(self) -> int:
        """As a resume does; gives the tick it would go on from, which is one of the last two."""
        remove_remnants(self.folder)
        tick = sound_tick(self.folder)
        assert tick in (10, 15)
        return tick

    def recover_and_save(self) -> None:
        self.recover()
        self.save()

    def assert_goes_on(self) -> None:
        self.recover_and_save()
        assert self.recover() == 15
        kept = sorted(path.name for path in self.folder.iterdir())
        assert kept == [f"step-{tick:06d}" for tick in (5, 10, 15)[-self.keep :]]


def num_operations(saves: Saves, act: Callable[[], object]) -> int:
    """How many file operations something takes."""
    log = saves.folder.with_name("log")
    log.unlink(missing_ok=True)
    assert saves.crash(0, "killed before", act) == 0
    return len(log.read_text().splitlines())


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_at_every_operation_of_a_save_and_another_while_it_is_recovered_from(
    how: str, keep: int, tmp_path: Path, trying: Callable[..., None]
) -> None:
    counted = Saves(tmp_path / "counted" / "checkpoints", keep)
    counted.begin()
    total = num_operations(counted, counted.save)
    assert total > 30
    every = range(1, total + 1)
    crashes = every if is_long() else every[keep - 1 :: 9]
    pairs = [
        (first, second)
        for first in crashes
        for second in (every[first % 5 :: 5] if is_long() else [random.Random(first).randint(1, total)])
    ]
    trying(f"{how} at every file operation of a save, and again in the recovery", len(pairs), MEANING)
    for first, second in pairs:
        saves = Saves(tmp_path / f"{first}-{second}" / "checkpoints", keep)
        saves.begin()
        # `half` is of writes: another operation is then done as a whole, and dies after it.
        assert saves.crash(first, how, saves.save) == -signal.SIGKILL
        assert saves.crash(second, how, saves.recover_and_save) in (-signal.SIGKILL, 0)
        saves.assert_goes_on()


def of_one_save(reference: Reference) -> list[int]:
    """The numbers of all file operations of the run's second save, from its first folder to its event."""
    begins = [
        number
        for number, line in enumerate(reference.operations, 1)
        if re.fullmatch(r"mkdir checkpoints/\.step-\d+\.new", line)
    ]
    return list(range(begins[1], begins[2]))


@pytest.mark.parametrize("part", range(NUM_PARTS if is_long() else 1))
def test_a_whole_training_killed_at_every_operation_of_a_save(
    part: int,
    reference: Callable[[str], Reference],
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    expected = reference("in waves")
    operations = tried(of_one_save(expected), part, NUM_PARTS)
    trying(
        "a training killed at every file operation of a save", len(operations), "resumes to the same bytes"
    )
    for operation in operations:
        run = tmp_path / f"run-{operation}"
        killed = expected.train(run, **at_operation(run, operation))
        assert killed.code == -signal.SIGKILL, killed.stderr
        expected.assert_goes_on(run)

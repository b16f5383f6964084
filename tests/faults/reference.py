"""A run that nothing disturbed, what must be equal to it, and where a training can be met."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.run.folder import Run
from loraloom.training.checkpoint import newest_valid
from tests.faults.training import Fruits, fruits
from tests.faults.warm import Ended, Started, Warm
from tests.training.test_checkpoint import assert_same_state, state_at

# Called once for every optimizer step of every experiment.
STEP = "loraloom.training.loop:_update"


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed, and the way to others that should come out the same.

    Args:
        warm: where trainings are started.
        recipe: its file.
        folder: the run.
        fruits: what came out of it.
        operations: its file operations, in order, as `name path within the run`.
        faults: what must be asked of every run that is compared with it.
    """

    warm: Warm
    recipe: Path
    folder: Path
    fruits: Fruits
    operations: tuple[str, ...]
    faults: dict[str, Any]

    def start(self, run: Path, *, option: str = "--out", **faults: Any) -> Started:
        """A training of the same recipe that is running."""
        asked = {**faults, **self.faults}
        return self.warm.start("train", self.recipe, option, run, cwd=run.parent, faults=asked)

    def train(self, run: Path, **faults: Any) -> Ended:
        """A training of the same recipe, until it ends."""
        return self.start(run, **faults).wait()

    def resume(self, run: Path, **faults: Any) -> Ended:
        """Go on with a run."""
        return self.start(run, option="--resume", **faults).wait()

    def held(self, run: Path, call: str, number: int) -> Started:
        """A training that waits at a call until `release`."""
        reached = run.parent / "reached"
        started = self.start(run, call=call, number=number, reached=str(reached), go=str(run.parent / "go"))
        started.until(reached.exists)
        return started

    def assert_same(self, run: Path, *, is_log_whole: bool = True) -> None:
        """The bytes, the ends and the losses are its own; a power cut may cost lines of the log."""
        found = fruits(run)
        assert found.adapters == self.fruits.adapters
        assert found.ends == self.fruits.ends
        assert found.losses.items() <= self.fruits.losses.items()
        assert not is_log_whole or found.losses == self.fruits.losses

    def assert_goes_on(self, run: Path, *, is_log_whole: bool = True) -> Ended:
        """It is resumed, and ends the same."""
        ended = self.resume(run)
        assert ended.code == 0, ended.stderr
        self.assert_same(run, is_log_whole=is_log_whole)
        return ended


def release(run: Path) -> None:
    """Let go of what is held."""
    (run.parent / "go").touch()


def at_operation(run: Path, operation: int, **how: Any) -> dict[str, Any]:
    """The fault of the n-th thing that a training does to a file of its run; 0 only writes them down."""
    return {"root": str(run), "log": str(run.parent / "log"), "operation": operation, **how}


def newest_step(run: Path) -> int:
    """Of its checkpoints; 0 where there is none."""
    steps = [int(path.name.removeprefix("step-")) for path in Run(run).checkpoints.glob("step-*")]
    return max(steps, default=0)


def sound_tick(checkpoints: Path) -> int:
    """The tick that a resume would go on from, where every checkpoint is whole and the newest as saved."""
    state, verdicts = newest_valid(checkpoints)
    assert state is not None
    assert not any(verdict.problem for verdict in verdicts)
    assert_same_state(state, state_at(state.tick))
    return state.tick


def is_long() -> bool:
    """Whether this is `make faults`."""
    return "LORALOOM_FAULTS" in os.environ


def tried(operations: Sequence[int], part: int, num_parts: int) -> list[int]:
    """A part's share of all of them by `make faults`; in the suite one, drawn from the part's number."""
    return list(operations[part::num_parts]) if is_long() else [random.Random(part).choice(operations)]

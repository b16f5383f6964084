"""Uninterrupted runs to compare with, each made once a session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.training import Fruits, fruits, write_training
from tests.faults.warm import Warm


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed.

    Args:
        recipe: its file.
        folder: the run.
        fruits: what came out of it.
        operations: its file operations, in order, as `name path within the run`.
        faults: what must be asked of every run that is compared with it.
    """

    recipe: Path
    folder: Path
    fruits: Fruits
    operations: tuple[str, ...]
    faults: dict[str, Any]


@pytest.fixture(scope="session")
def reference(
    warm: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Reference]:
    """`reference("together")`, one checkpoint kept; `reference("in waves")`, two kept and two waves."""

    @functools.cache
    def made(kind: str) -> Reference:
        folder = tmp_path_factory.mktemp("reference")
        recipe = write_training(folder, tiny("mt5"), keep=1 if kind == "together" else 2)
        faults = {} if kind == "together" else {"waves": [["long", "short"], ["stopped"]]}
        run, log = folder / "run", folder / "log"
        instruments = {"root": str(run), "log": str(log)}
        ended = warm.call("train", recipe, "--out", run, cwd=folder, faults={**instruments, **faults})
        assert ended.code == 0, ended.stderr
        operations = tuple(line.replace(f"{run}/", "") for line in log.read_text().splitlines())
        return Reference(recipe, run, fruits(run), operations, faults)

    return made

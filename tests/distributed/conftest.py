"""One training, on one process and on two, made once a session; the tests compare, end or resume it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.launched import RankGroup
from tests.faults.training import write_training
from tests.faults.warm import Warm


@pytest.fixture(scope="session")
def shared_recipe(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three experiments with dropout, accumulation, answers, retained rows and early stopping."""
    return write_training(tmp_path_factory.mktemp("ranks"), tiny("mt5"), keep=2)


@pytest.fixture(scope="session")
def alone(shared_recipe: Path, warm: Warm) -> Path:
    """The run of one process."""
    run = shared_recipe.parent / "alone"
    ended = warm.call("train", shared_recipe, "--out", run, cwd=run.parent)
    assert ended.code == 0, ended.stderr
    return run


@pytest.fixture
def ranks(warm: Warm) -> RankGroup:
    """Starts a command on several ranks."""
    return RankGroup(warm)

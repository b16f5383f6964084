"""One training, on one process and on two, made once a session; the tests compare, end or resume it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.launched import RankGroup
from tests.faults.training import write_training
from tests.faults.warm import Warm

SHORT = """\
data: {train: data.json, eval: 4, max_source_length: 24, max_target_length: 24}
lora: {r: 4, target_modules: [q, v]}
training:
  learning_rate: 1.0e-2
  max_steps: 6
  per_device_train_batch_size: 4
  eval_strategy: no
  save_strategy: steps
  save_steps: 2
generation: {max_new_tokens: 8}
"""


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


@pytest.fixture(scope="session")
def short_recipe(shared_recipe: Path) -> Path:
    """A single experiment of six steps on the same rows, with a checkpoint after every second one."""
    recipe = shared_recipe.with_name("short.yaml")
    whole = shared_recipe.read_text(encoding="utf-8")
    model = whole.splitlines()[0]
    recipe.write_text(f"{model}\n{SHORT}", encoding="utf-8")
    return recipe


@pytest.fixture
def ranks(warm: Warm) -> RankGroup:
    """Starts a command on several ranks."""
    return RankGroup(warm)

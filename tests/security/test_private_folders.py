"""A run is its user's alone, whatever the umask says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loraloom.run.folder import create_run
from tests.commands.trained import train_small
from tests.search.small import run_search, write_recipe_file


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_run_is_made_for_its_user_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir(mode=0o777)
    for folder in (tmp_path / "runs/new", tmp_path / "empty"):
        assert mode(create_run(folder).folder) == 0o700


@pytest.mark.usefixtures("umask")
def test_a_lock_names_its_holder_to_its_user_alone(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    with run.locked():
        assert mode(run.folder / ".lock") == 0o600


def test_training_and_searching_leave_it_so(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        trained = train_small(tmp_path / "train", tiny("mt5"))
        recipe = write_recipe_file(tmp_path / "search", tiny("mt5"))
        searched = run_search(recipe, tmp_path / "searched", num_trials=1).run.folder
    finally:
        os.umask(before)
    assert mode(trained) == mode(searched) == 0o700

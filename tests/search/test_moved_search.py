"""A search whose base and data were moved goes on with them named, to the same end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.search import search
from loraloom.errors import DataError, ModelError
from loraloom.recipe.reading import parse_recipe, read_run_recipe, write_recipe
from loraloom.run.events import Event, TrialStart
from tests.search.small import fruits, request_of, run_search, write_recipe_file


def test_a_stopped_search_goes_on_elsewhere(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(tiny("mt5"), tmp_path / "project" / "base")
    recipe = write_recipe_file(tmp_path / "project", Path("base"))
    run_search(recipe, tmp_path / "whole")

    def stop(event: Event) -> None:
        if isinstance(event, TrialStart):
            raise ModelError("stopped")

    with pytest.raises(ModelError, match="stopped"):
        run_search(recipe, tmp_path / "run", report=stop)
    (tmp_path / "project").rename(tmp_path / "moved")
    (tmp_path / "moved" / "base").rename(tmp_path / "renamed")
    # From text, as a program has it, and so from the folder that the run was begun in.
    own = read_run_recipe(tmp_path / "run" / "recipe.yaml").model_copy(update={"experiments": {}})
    request = request_of(parse_recipe(write_recipe(own), name="text"))
    with pytest.raises(DataError, match=f"searched in {tmp_path / 'project'}"):
        search(request, resume=tmp_path / "run")
    with pytest.raises(ModelError, match=f"looked for at {tmp_path / 'moved' / 'base'}"):
        search(request, resume=tmp_path / "run", data=tmp_path / "moved")
    search(request, resume=tmp_path / "run", data=tmp_path / "moved", base=tmp_path / "renamed")
    assert fruits(tmp_path / "run") == fruits(tmp_path / "whole")
    assert str(tmp_path) not in (tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8")

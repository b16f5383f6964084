"""Uninterrupted searches to compare with, each made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.search.small import run_search, write_recipe_file


@pytest.fixture(scope="session")
def recipe(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small recipe on the tiny mT5."""
    return write_recipe_file(tmp_path_factory.mktemp("searched"), tiny("mt5"))


@pytest.fixture(scope="session")
def searched(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`searched(halving=True)` → the folder of a finished search of six random trials."""
    made: dict[str, Path] = {}

    def folder(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("search") / "run"
            run_search(recipe, out, **options)
            made[key] = out
        return made[key]

    return folder

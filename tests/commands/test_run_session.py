"""What a run leaves that never came to its first step, and whose folder is never touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import Recipe
from loraloom.commands.find_lr import find_learning_rate
from loraloom.commands.search import search
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from tests.commands.trained import ROWS

Verb = Callable[..., Any]


def search_ranks(recipe: Recipe, **options: Any) -> Any:
    space = parse_space("r: [2, 4]", name="space.yaml", recipe=recipe)
    return search(make_request(recipe, space, num_trials=2, sampler="grid", halving=False), **options)


@pytest.fixture
def recipe(tiny: Callable[[str], Path], tmp_path: Path) -> Recipe:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    return Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 6, "max_target_length": 16},
            "lora": {"r": 4},
            "training": {"max_steps": 2},
            "device": "cpu",
        }
    )


@pytest.mark.parametrize("verb", [train, search_ranks])
def test_what_could_not_be_saved_is_not_begun(
    verb: Verb, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.forecast.prediction.free_disk_bytes", lambda folder: 0)
    with pytest.raises(
        RunError, match=r"not enough space for 3 checkpoints of \d+ KiB: 0 bytes free"
    ) as raised:
        verb(recipe.in_folder(tmp_path), out=tmp_path / "run")
    assert str(tmp_path / "run") in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_range_test_that_dies_leaves_nothing(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("loraloom.commands.find_lr.train_loop", die)
    with pytest.raises(ZeroDivisionError):
        find_learning_rate(recipe.in_folder(tmp_path), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", [train, search_ranks, find_learning_rate])
def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(
    verb: Verb, recipe: Recipe, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="must be new or empty"):
        verb(recipe.in_folder(tmp_path), out=own)
    assert (own / "thesis.txt").read_text() == "years of work"

"""The facts of many adapters of one run are read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.recipe import Recipe
from loraloom.run.folder import Run
from loraloom.training import card_facts
from loraloom.training.card_facts import read_facts
from tests.web.pages.conftest import copy_run


def test_a_recipe_is_read_once_for_all_adapters_and_again_if_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plain, read = Run(copy_run("finished", tmp_path)), card_facts.read_run_recipe, list[Path]()

    def reading(file: Path) -> Recipe:
        read.append(file)
        return plain(file)

    monkeypatch.setattr(card_facts, "read_run_recipe", reading)
    first = read_facts(run, "wide", {}, ["q"])
    assert read_facts(run, "narrow", {}, ["q"]).experiment.name == "narrow"
    assert len(read) == 1
    staged = run.folder / "new.yaml"
    text = run.recipe_file.read_text(encoding="utf-8")
    staged.write_text(text.replace(f"\nseed: {first.recipe.seed}\n", "\nseed: 7\n"), encoding="utf-8")
    staged.replace(run.recipe_file)
    assert read_facts(run, "wide", {}, ["q"]).recipe.seed == 7 != first.recipe.seed
    assert len(read) == 2

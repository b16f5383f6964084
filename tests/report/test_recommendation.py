"""The recommended recipe: read back it is the same experiment, from any folder, under any sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.commands.report import render_report, write_report
from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe, read_recipe, shipped_recipes
from loraloom.report.content import read_content
from loraloom.report.recommendation import commented, not_found, only, with_paths
from tests.report.runs import FOLDER, make_run

CHANGES = {
    "wide": {"lora": {"r": 64, "target_modules": ["q", "v"]}, "training": {"learning_rate": 2e-3}, "seed": 7},
    "slow": {"training": {"learning_rate": 9.65e-7}},
}


@pytest.mark.parametrize("seeds", [1, 3])
def test_each_experiment_by_itself_is_the_same_experiment(seeds: int) -> None:
    recipe = read_recipe(shipped_recipes()["article"], [f"seeds={seeds}"])
    groups = {experiment.group for experiment in recipe.resolved_experiments}
    assert len(groups) > 1
    for group in groups:
        alone = parse_recipe(commented(only(recipe, group), "why"), name="recommended.yaml")
        assert alone.experiments == {}
        wanted = [replace(e, name="", group="") for e in recipe.resolved_experiments if e.group == group]
        assert [replace(e, name="", group="") for e in alone.resolved_experiments] == wanted
        assert (alone.data, alone.generation) == (recipe.data, recipe.generation)


@given(st.text(max_size=300))
def test_no_sentence_leaves_its_comment(sentence: str) -> None:
    recipe = Recipe.model_validate({"model_name_or_path": "starter", "data": {"train": "starter"}})
    assert parse_recipe(commented(recipe, sentence), name="x") == recipe


def test_paths_are_written_in_full_where_there_is_something(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]", encoding="utf-8")
    (tmp_path / "model").mkdir()
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": "model",
            "data": {"train": "rows.json", "eval": 0.2, "test": "starter", "retain": "gone.json"},
            "lora": {"init_adapter": "model"},
        }
    )
    placed = with_paths(recipe.in_folder(tmp_path))
    assert placed.model_name_or_path == placed.lora.init_adapter == str(tmp_path / "model")
    assert placed.data.train == str(tmp_path / "rows.json")
    assert (placed.data.eval, placed.data.test, placed.data.retain) == (0.2, "starter", "gone.json")
    assert with_paths(placed.in_folder(tmp_path / "elsewhere")) == placed


def test_lists_folders_and_patterns_are_written_in_full(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.json").write_text("[]", encoding="utf-8")
    data = {"train": ["data", "hub:owner/name"], "eval": "data/*.json", "test": ["gone/*.json"]}
    recipe = Recipe.model_validate({"model_name_or_path": "starter", "data": data})
    placed = with_paths(recipe.in_folder(tmp_path))
    assert placed.data.train == [str(tmp_path / "data"), "hub:owner/name"]
    assert placed.data.eval == str(tmp_path / "data" / "*.json")
    assert placed.data.test == ["gone/*.json"]
    assert (
        not_found(recipe.in_folder(tmp_path))
        == f"These data files are no longer in {tmp_path}, so the recipe names them as the run did: "
        "gone/*.json."
    )


def test_the_page_shows_it_and_the_verb_writes_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", changes=CHANGES)
    path = write_report(run.folder, "recipe")
    assert path == run.folder / "recommended.yaml"
    written = read_recipe(path)
    assert (written.lora.r, written.lora.target_modules, written.seed) == (64, ["q", "v"], 7)
    assert written.training.learning_rate == 2e-3
    assert path.read_text(encoding="utf-8").startswith("# Take wide: chrF 31.4 on 3 test rows.\n")
    shown = read_content(run.folder).advised_recipe
    assert FOLDER not in shown
    assert parse_recipe(shown, name="shown").training == written.training


def test_where_nothing_is_recommended_no_recipe_is_pushed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", changes=CHANGES)
    file = run.comparisons / "test.json"
    text = file.read_text(encoding="utf-8").replace('"experiment": "wide"', '"experiment": null')
    file.write_text(text.replace("Take wide: chrF", "No configuration is better than another here: chrF"))
    content = read_content(run.folder)
    assert content.advised_recipe == ""
    assert "No configuration is better than another here" in render_report(run.folder)
    with pytest.raises(RunError, match="No configuration is better than another here"):
        write_report(run.folder, "recipe")
    assert not (run.folder / "recommended.yaml").exists()


def test_before_a_comparison_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="loraloom compare"):
        write_report(make_run(tmp_path / "run", compare=()).folder, "recipe")

"""An answer may be as long as a response, unless the recipe says how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.recipe import DataSettings, Recipe
from loraloom.recipe.reading import (
    commented_recipe,
    parse_recipe,
    read_recipe,
    read_recipe_with_notes,
    recipe_schema,
    shipped_recipes,
    write_recipe,
)

START = "model_name_or_path: starter\ndata: {train: a.json%s}\n"


def tokens(text: str, *sets: str) -> int:
    return parse_recipe(text, name="recipe", sets=sets).generation.max_new_tokens


def test_it_follows_the_longest_response() -> None:
    assert tokens(START % ", max_target_length: 1024") == 1024
    assert tokens(START % "") == DataSettings(train="a").max_target_length
    assert tokens(START % "" + "generation: {num_beams: 2}", "data.max_target_length=50") == 50


def test_what_a_recipe_says_holds() -> None:
    stated = START % ", max_target_length: 1024" + "generation: {max_new_tokens: 7}"
    assert tokens(stated) == 7
    assert tokens(stated, "generation.max_new_tokens=9") == 9
    assert tokens(stated, "generation.max_new_tokens=") == 1024


def test_a_written_recipe_has_the_number() -> None:
    recipe = parse_recipe(START % ", max_target_length: 77", name="recipe")
    written = write_recipe(recipe)
    assert "max_new_tokens: 77" in written
    assert parse_recipe(written, name="written") == recipe
    assert Recipe.model_validate(recipe.model_dump()) == recipe


def test_init_and_what_it_writes_agree() -> None:
    assert tokens(commented_recipe("starter", {"train": "a.json"}, max_target_length=1024)) == 1024


def test_a_message_says_what_it_is_by_default() -> None:
    with pytest.raises(Exception, match=r"The default is the value of `data\.max_target_length`\."):
        tokens(START % "" + "generation: {max_new_tokens: 0}")
    schema = recipe_schema()["$defs"]["GenerationSettings"]["properties"]["max_new_tokens"]
    assert "default" not in schema


def test_recipes_that_come_along_keep_what_they_say() -> None:
    said = {name: read_recipe(path).generation.max_new_tokens for name, path in shipped_recipes().items()}
    assert said == {"starter": 80, "article-starter": 80, "mt0-large": 256, "article": 256}


def test_a_recipe_without_it_resumes_a_run_that_had_another_default(tmp_path: Path) -> None:
    own, run = tmp_path / "own.yaml", tmp_path / "recipe.yaml"
    own.write_text(START % "", encoding="utf-8")
    run.write_text(START % "" + "generation: {max_new_tokens: 128}\n", encoding="utf-8")
    assert read_recipe(own).generation.max_new_tokens == 256
    resumed = read_recipe_with_notes(own, resumed=run).recipe
    assert resumed.generation.max_new_tokens == 128
    assert resumed.data.source_truncation == "right"
    said = read_recipe_with_notes(own, ["generation.max_new_tokens=9"], resumed=run).recipe
    assert said.generation.max_new_tokens == 9

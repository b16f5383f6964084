"""The files that workers are sent are found again below one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from loraloom.data.files.relocation import find_moved
from loraloom.recipe.reading import parse_recipe
from loraloom.workers.sent_files import files_to_send


@pytest.mark.parametrize("named", ["rows.json", "../shop/rows.json", "parts", "parts/*.jsonl", "**/*.jsonl"])
def test_data_is_found_by_the_name_that_the_recipe_has(named: str, tmp_path: Path) -> None:
    home, there = tmp_path / "home" / "recipes", tmp_path / "there"
    for file in ("rows.json", "../shop/rows.json", "parts/a.jsonl", "parts/b.jsonl"):
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_text(file)
    base = tmp_path / "model"
    base.mkdir()
    (base / "config.json").write_text("{}")
    text = f'{{"model": "{base}", "data": {{"train": "{named}"}}}}'
    recipe = parse_recipe(text, name="recipe.yaml").in_folder(home)
    recipe = recipe.model_copy(update={"data": recipe.data.in_folder(home)})
    sent = files_to_send(recipe)
    assert sent.pop("base/config.json") == base / "config.json"
    for path, file in sent.items():
        (there / path).parent.mkdir(parents=True, exist_ok=True)
        (there / path).write_bytes(file.read_bytes())
    found = find_moved(recipe.data, there / "data", {})
    if "*" in named:
        (place,) = found.values()
        files = sorted(
            place.parent.glob(place.name) if "**" not in named else (there / "data").rglob("*.jsonl")
        )
        assert [file.name for file in files] == ["a.jsonl", "b.jsonl"]
    elif named == "parts":
        assert sorted(file.name for file in found[named].iterdir()) == ["a.jsonl", "b.jsonl"]
    else:
        assert found[named].read_text() == named

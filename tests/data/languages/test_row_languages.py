"""Where the languages of a row come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loraloom.data.example import Example
from loraloom.data.examples import read_examples
from loraloom.data.retain import read_retained
from loraloom.errors import DataError, RecipeError
from loraloom.recipe import DataSettings
from loraloom.recipe.reading import parse_recipe

PAIRS = [{"translation": {"de": f"eins {n}", "en": f"one {n}"}} for n in range(3)]
ROWS = [{"source": "eins", "target": "one", "from": "de", "to": "en"}] * 2


def read(path: Path, rows: list[dict[str, Any]], **settings: Any) -> list[Example]:
    path = path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return read_examples(path, DataSettings(train="x", **settings), shown_as="rows.jsonl").examples


def languages(examples: list[Example]) -> set[tuple[str, str]]:
    return {(each.source_lang, each.target_lang) for each in examples}


def test_the_keys_of_a_translation_pair(tmp_path: Path) -> None:
    assert languages(read(tmp_path, PAIRS)) == {("de", "en")}
    columns = {"instruction": "en", "response": "de"}
    assert languages(read(tmp_path, PAIRS, columns=columns)) == {("en", "de")}
    codes = {"de": "deu_Latn", "en": "eng_Latn"}
    assert languages(read(tmp_path, PAIRS, language_codes=codes)) == {("deu_Latn", "eng_Latn")}


def test_the_recipe_takes_the_place_of_keys(tmp_path: Path) -> None:
    found = read(tmp_path, PAIRS, source_lang="deu_Latn", target_lang="eng_Latn")
    assert languages(found) == {("deu_Latn", "eng_Latn")}


def test_pairs_in_the_recipes_other_direction_are_refused(tmp_path: Path) -> None:
    """The obvious code trains on German sources that are labelled as English."""
    with pytest.raises(DataError, match=r"from `de` to `en`.*instruction: en, response: de"):
        read(tmp_path, PAIRS, source_lang="eng_Latn", target_lang="deu_Latn")
    turned = {"instruction": "en", "response": "de"}
    read(tmp_path, PAIRS, source_lang="eng_Latn", target_lang="deu_Latn", columns=turned)


def test_columns(tmp_path: Path) -> None:
    rows = [*ROWS, {"source": "un", "target": "one", "from": "fr", "to": "en"}]
    settings = {"source_lang_column": "from", "target_lang_column": "to"}
    assert languages(read(tmp_path, rows, **settings)) == {("de", "en"), ("fr", "en")}
    fixed = {"source_lang_column": "from", "target_lang": "eng_Latn"}
    assert languages(read(tmp_path, rows, **fixed)) == {("de", "eng_Latn"), ("fr", "eng_Latn")}


def test_columns_with_languages_are_not_unused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    settings = DataSettings(train="x", source_lang_column="from", target_lang_column="to")
    assert not any("unused" in note for note in read_examples(path, settings, shown_as="r").notes)
    assert any("unused" in note for note in read_examples(path, DataSettings(train="x"), shown_as="r").notes)


def test_a_column_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.source_lang_column: there is no column `lang` in rows.jsonl"):
        read(tmp_path, ROWS, source_lang_column="lang")
    with pytest.raises(DataError, match=r"rows.jsonl:3: row 3: `from` has no language"):
        read(tmp_path, [*ROWS, {**ROWS[0], "from": " "}], source_lang_column="from")


def test_both_a_language_and_its_column_are_refused() -> None:
    text = "model: m\ndata: {train: a.json, source_lang: de, source_lang_column: from}"
    with pytest.raises(RecipeError, match=r"source_lang.*cannot be combined with source_lang_column"):
        parse_recipe(text, name="r.yaml")


def test_nothing_is_known_of_rows_that_say_nothing(tmp_path: Path) -> None:
    assert languages(read(tmp_path, [{"source": "a", "target": "b"}])) == {("", "")}


def test_retained_rows_have_languages_of_their_own_or_the_recipes(tmp_path: Path) -> None:
    for name, rows in (("pairs.jsonl", PAIRS), ("plain.jsonl", [{"source": "a", "target": "b"}])):
        (tmp_path / name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    settings = DataSettings(
        train="x",
        retain=[str(tmp_path / "pairs.jsonl"), str(tmp_path / "plain.jsonl")],
        source_lang="fra_Latn",
        target_lang="eng_Latn",
        language_codes={"de": "deu_Latn", "en": "eng_Latn"},
    )
    retained = read_retained(settings)
    assert retained is not None
    assert languages(retained.examples) == {("deu_Latn", "eng_Latn"), ("fra_Latn", "eng_Latn")}

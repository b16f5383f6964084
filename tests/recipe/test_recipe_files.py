"""Settings that name files: one, or a list."""

from __future__ import annotations

from typing import Any

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe.reading import commented_recipe, parse_recipe, write_recipe

HEAD = "model_name_or_path: starter\n"


def read(data: str, *sets: str) -> Any:
    return parse_recipe(f"{HEAD}data: {data}\n", name="r.yaml", sets=sets).data


@pytest.mark.parametrize(
    ("data", "key", "value"),
    [
        ("{train: [a.jsonl, b.csv.gz]}", "train", ["a.jsonl", "b.csv.gz"]),
        ("{train: a, eval: [b], test: [c, d]}", "eval", ["b"]),
        ("{train: a, eval: [b], test: [c, d]}", "test", ["c", "d"]),
        ("{train: a, retain: [b, starter]}", "retain", ["b", "starter"]),
        ("{train: a, retain: null}", "retain", None),
        ("{train: 2024}", "train", "2024"),
        ("{train: a, retain: 2024}", "retain", "2024"),
        ("{train: data/*.jsonl}", "train", "data/*.jsonl"),
        ("{train: '*.jsonl'}", "train", "*.jsonl"),
        ("[a.jsonl, b.jsonl]", "train", ["a.jsonl", "b.jsonl"]),
    ],
)
def test_a_name_or_a_list_of_names(data: str, key: str, value: Any) -> None:
    assert getattr(read(data), key) == value


def test_lists_are_set_on_the_command_line_and_written_back() -> None:
    data = read("{train: a}", "data.train=[a.json, b.json]", "data.eval=[c]", "data.test=*.json")
    assert (data.train, data.eval, data.test) == (["a.json", "b.json"], ["c"], "*.json")
    recipe = parse_recipe(f"{HEAD}data: {{train: [a.json, 'b, c.json'], eval: [d]}}", name="r.yaml")
    assert parse_recipe(write_recipe(recipe), name="r.yaml") == recipe
    text = commented_recipe("starter", {"train": ["a.json", "b: c.json"]})
    assert parse_recipe(text, name="r.yaml").data.train == ["a.json", "b: c.json"]


def test_a_prefix_that_looks_like_a_list_stays_text() -> None:
    assert read("{train: a}", "data.source_prefix=[de]").source_prefix == "[de]"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{train: []}", "`data.train` is an empty list; it must contain at least one file name"),
        ("{train: [a, '']}", "`data.train` contains no file name"),
        ("{train: ' '}", "`data.train` contains no file name"),
        ("{train: [2024]}", "must be a file name or a list of file names"),
        ("{train: {train: a}}", "must be a file name or a list of file names"),
        ("{train: a, eval: [0.1]}", "must be a file name or a list of file names"),
        ("{train: a, eval: {b: c}}", "or a file or list of files"),
        ("{train: a, retain: [[b]]}", "must be a file name or a list of file names"),
        ("{train: *.json}", "Text that begins with `*` needs quotes"),
        ("{train: *all}", "text that begins with `*` needs quotes"),
    ],
)
def test_what_names_no_file_is_refused(data: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(data)
    assert told in str(caught.value)


def test_bad_rows_are_dropped_under_the_names_of_pandas() -> None:
    assert read("{train: a, on_bad_lines: skip}").on_invalid == "drop"
    assert read("{train: a}").on_invalid == "error"

"""Columns that are in no example, and the passage among them that a question is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loraloom.data.examples import read_examples
from loraloom.recipe import DataSettings

PASSAGE = "Rivers carry sediment to the sea, where it settles in deltas that grow by some metres a year. " * 3


def notes(tmp_path: Path, rows: list[dict[str, Any]], **settings: Any) -> list[str]:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    data = DataSettings(train="rows.json", **settings)
    return read_examples(path, data, shown_as="rows.json").notes


def boolq(number: int) -> dict[str, Any]:
    return {"question": f"do rivers carry {number} grams", "answer": "yes", "passage": PASSAGE}


def race(number: int) -> dict[str, Any]:
    question = f"What do {number} rivers carry to the sea?"
    return {"article": PASSAGE, "question": question, "options": ["sand", "salt"], "answer": "A"}


@pytest.mark.parametrize(("row", "passage"), [(boolq, "passage"), (race, "article")])
def test_a_passage_that_is_in_no_source_is_told_with_what_to_write(
    tmp_path: Path, row: Any, passage: str
) -> None:
    rows = [row(number) for number in range(4)]
    (note,) = [note for note in notes(tmp_path, rows) if "is in no source" in note]
    assert f"`{passage}` is in no source and is much longer than `question`" in note
    assert f"`data.columns: {{instruction: question, input: {passage}, response: answer}}`" in note
    columns = {"instruction": "question", "input": passage, "response": "answer"}
    assert not any("is in no source" in note for note in notes(tmp_path, rows, columns=columns))


@pytest.mark.parametrize(
    "extra",
    [
        {"url": "https://example.org/a-page"},
        {"id": 7},
        {"tags": [PASSAGE]},
        {"explanation": "a short remark"},
    ],
)
def test_other_columns_are_only_named(tmp_path: Path, extra: dict[str, Any]) -> None:
    rows = [{"instruction": f"ask about the {n} rivers", "response": "so"} | extra for n in range(4)]
    told = notes(tmp_path, rows)
    assert any(f"unused columns: `{next(iter(extra))}`" in note for note in told)
    assert not any("is in no source" in note for note in told)


def test_a_template_says_itself_what_is_asked(tmp_path: Path) -> None:
    told = notes(tmp_path, [boolq(1)], source_prefix="{question}")
    assert not any("much longer" in note for note in told)

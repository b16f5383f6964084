"""Rows to answer: an answer may be empty or missing, in every row or in some; an id goes along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loraloom.data.prompts.prompts import Prompt, read_prompts
from loraloom.data.rows import Findings
from loraloom.errors import DataError
from loraloom.recipe import DataSettings

ASKED = ["甲", "乙", "丙"]


def prompts_of(
    folder: Path, rows: list[dict[str, Any]], *, name: str = "rows.json", **how: Any
) -> list[Prompt]:
    settings = DataSettings.model_validate({"train": "x.json", **how.pop("data", {})})
    (folder / name).write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return read_prompts(folder / name, settings, shown_as=name, **how)


@pytest.mark.parametrize(
    "answers",
    [
        [None, None, None],
        ["", "", ""],
        ["  \n", None, ""],
        [..., ..., ...],
        [..., "known", ...],
        [None, "known", ""],
        [float("nan"), "known", None],
    ],
    ids=str,
)
@pytest.mark.parametrize("column", ["response", "output"])
def test_an_answer_may_be_empty_or_missing_in_every_row_or_in_some(
    tmp_path: Path, answers: list[Any], column: str
) -> None:
    rows = [
        {"instruction": text} | ({} if answer is ... else {column: answer})
        for text, answer in zip(ASKED, answers, strict=True)
    ]
    found = prompts_of(tmp_path, rows)
    assert [prompt.source for prompt in found] == ASKED
    assert [prompt.response for prompt in found] == ["known" if a == "known" else None for a in answers]
    assert [prompt.response for prompt in prompts_of(tmp_path, rows, with_answers=False)] == [None] * 3


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "甲", "completion": ""},
        {"question": "甲", "answer": None, "context": ""},
        {"source": "甲", "target": ""},
        {"text": "甲", "summary": None},
        {"article": "甲"},
        {"input": "甲", "output": ""},
        {"translation": {"en": "甲", "de": ""}},
        {"translation": {"en": "甲", "de": None}},
    ],
    ids=str,
)
def test_every_layout_is_known_without_its_answer(tmp_path: Path, row: dict[str, Any]) -> None:
    (prompt,) = prompts_of(tmp_path, [row])
    assert (prompt.source, prompt.response) == ("甲", None)


def test_named_columns_may_lack_the_answers_too(tmp_path: Path) -> None:
    data = {"columns": {"instruction": "body", "response": "title"}}
    rows = [{"body": "甲", "title": "known"}, {"body": "乙", "title": ""}, {"body": "丙"}]
    assert [p.response for p in prompts_of(tmp_path, rows, data=data)] == ["known", None, None]
    pairs = {"columns": {"instruction": "en", "response": "de"}}
    rows = [{"translation": {"en": "甲", "de": "known"}}, {"translation": {"en": "乙"}}]
    assert [p.response for p in prompts_of(tmp_path, rows, data=pairs)] == ["known", None]
    with pytest.raises(DataError, match=r"there is no column `body` in rows\.json"):
        prompts_of(tmp_path, [{"text": "甲", "title": "x"}], data=data)


def test_a_table_with_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("ID,instruction,response\n007,甲,\n008,乙,known\n", encoding="utf-8")
    settings = DataSettings(train="x.json")
    found = read_prompts(tmp_path / "rows.csv", settings, shown_as="rows.csv", keep=())
    assert [(p.response, dict(p.kept)) for p in found] == [(None, {"ID": "007"}), ("known", {"ID": "008"})]


def test_a_number_that_is_kept_is_the_files(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    scores = pyarrow.array([3.8, None], type=pyarrow.float32())
    table = pyarrow.table({"instruction": ["甲", "乙"], "scores": [[1], [2]], "score": scores})
    parquet.write_table(table, tmp_path / "rows.parquet")
    settings = DataSettings(train="x.json")
    found = read_prompts(tmp_path / "rows.parquet", settings, shown_as="rows.parquet", keep=["score"])
    assert [json.dumps(p.kept["score"]) for p in found] == ["3.8", "null"]


def test_an_answer_that_is_not_looked_at_may_be_anything(tmp_path: Path) -> None:
    rows = [{"instruction": "甲", "response": value} for value in (3, ["a"], {"b": 1}, "\u0000", True)]
    found = prompts_of(tmp_path, rows, with_answers=False)
    assert [p.response for p in found] == [None] * 5
    with pytest.raises(DataError, match=r"5 problems in all"):
        prompts_of(tmp_path, rows)


def test_a_question_still_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: `instruction` is empty"):
        prompts_of(
            tmp_path, [{"instruction": "甲"}, {"instruction": "", "response": "x"}], with_answers=False
        )


def test_questions_that_are_dropped_are_counted_aloud(tmp_path: Path) -> None:
    findings = Findings()
    rows = [{"id": 1, "instruction": ""}, {"id": 2, "instruction": "乙"}]
    (prompt,) = prompts_of(tmp_path, rows, data={"on_empty": "drop"}, keep=(), findings=findings)
    assert (prompt.row, dict(prompt.kept)) == (2, {"id": 2})
    assert findings.notes == ["rows.json: 1 empty questions were skipped (data.on_empty: drop)"]


@pytest.mark.parametrize("name", ["id", "ID", "idx", "uid", "UUID", "_id", "Question_ID", "index"])
def test_an_id_is_known_by_its_name(tmp_path: Path, name: str) -> None:
    rows = [{name: n * 11, "instruction": text, "other": 1} for n, text in enumerate(ASKED)]
    assert [dict(p.kept) for p in prompts_of(tmp_path, rows, keep=())] == [{name: 0}, {name: 11}, {name: 22}]
    assert not prompts_of(tmp_path, rows)[0].kept


def test_of_several_ids_the_plainest_is_taken_and_a_question_is_none(tmp_path: Path) -> None:
    rows = [{"idx": 1, "uid": "u", "id": "i", "instruction": "甲"}]
    assert dict(prompts_of(tmp_path, rows, keep=())[0].kept) == {"id": "i"}
    asked = {"columns": {"instruction": "id", "response": "text"}}
    assert not prompts_of(tmp_path, [{"id": "甲", "text": "x"}], data=asked, keep=())[0].kept


def test_kept_columns_are_as_json_holds_them(tmp_path: Path) -> None:
    rows = [
        {"instruction": "甲", "url": "http://x", "n": 3.8, "tags": ["a", {"b": None}], "answer": "as it was"},
        {"instruction": "乙"},
    ]
    keep = ["tags", "url", "n", "answer"]
    first, second = prompts_of(tmp_path, rows, keep=keep)
    assert list(first.kept) == ["tags", "url", "n", "answer_in_file"]
    assert json.dumps(dict(first.kept)) == json.dumps(
        {"tags": ["a", {"b": None}], "url": "http://x", "n": 3.8, "answer_in_file": "as it was"}
    )
    assert set(second.kept.values()) == {None}


def test_parquet_types_become_json(tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "instruction": ["甲"],
            "response": pyarrow.array([None], pyarrow.string()),
            "day": [datetime.date(2026, 11, 27)],
            "price": pyarrow.array([decimal.Decimal("3.80")], pyarrow.decimal128(10, 2)),
            "raw": [b"ab"],
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    settings = DataSettings(train="x.json")
    keep = ["day", "price", "raw"]
    (prompt,) = read_prompts(tmp_path / "rows.parquet", settings, shown_as="rows.parquet", keep=keep)
    assert (prompt.source, prompt.response) == ("甲", None)
    assert json.loads(json.dumps(dict(prompt.kept))) == {"day": "2026-11-27", "price": 3.8, "raw": "ab"}


def test_columns_that_are_not_there_are_all_said(tmp_path: Path) -> None:
    rows = [{"id": 1, "instruction": "甲"}]
    with pytest.raises(DataError) as refused:
        prompts_of(tmp_path, rows, keep=["url", "id", "titel"])
    assert [str(problem) for problem in refused.value.problems] == [
        f"--keep: there is no column `{name}` in rows.json. Allowed: `id`, `instruction`."
        for name in ("url", "titel")
    ]
    (tmp_path / "rows.txt").write_text("甲\n", encoding="utf-8")
    with pytest.raises(DataError, match="a text file has no columns to keep"):
        read_prompts(tmp_path / "rows.txt", DataSettings(train="x.json"), shown_as="rows.txt", keep=["id"])

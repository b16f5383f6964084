"""One JSON object that holds all rows: column by column, under labels, in several lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_files import refusal

from loraloom.data.formats.row import Findings
from loraloom.data.rows import scan_rows
from loraloom.errors import DataError
from loraloom.recipe import DataSettings

ROWS = [{"instruction": f"q{n}", "response": f"a{n}"} for n in range(1, 4)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
LISTED = COLUMNS.items()
TABLES: dict[str, Any] = {
    "columns": COLUMNS,
    "columns by label": {name: dict(zip("012", texts, strict=True)) for name, texts in COLUMNS.items()},
    "columns of odd labels": {
        name: dict(zip(("7", "3", "-1"), t, strict=True)) for name, t in COLUMNS.items()
    },
    "index": dict(zip("012", ROWS, strict=True)),
    "split": {"columns": list(ROWS[0]), "index": [5, 6, 7], "data": [list(row.values()) for row in ROWS]},
    "split without index": {"columns": list(ROWS[0]), "data": [list(row.values()) for row in ROWS]},
    "table": {"schema": {"fields": [{"name": "instruction"}]}, "data": ROWS},
    "train first": {"train": ROWS, "validation": ROWS[:1]},
    "train last": {"validation": ROWS[:1], "train": ROWS},
}
Noted = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    """Write a file and read it back: its rows' values, and the notes as one text."""

    def write_and_read(text: str, name: str = "a.json", **options: Any) -> tuple[list[dict[str, Any]], str]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        findings = Findings()
        settings = DataSettings(train=name, **options)
        rows = list(scan_rows(tmp_path / name, settings, shown_as=name, findings=findings))
        findings.raise_problems()
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        return [row.values for row in rows], "\n".join(findings.notes)

    return write_and_read


@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_table_in_one_object_is_read_and_noted(noted, shape, indent, name):
    values, notes = noted(json.dumps(TABLES[shape], indent=indent), name)
    assert values == ROWS
    assert notes.startswith(f"{name}: ")


@pytest.mark.parametrize("orient", ["columns", "index", "split", "records", "table"])
def test_what_pandas_writes_is_read(noted, orient):
    pandas = pytest.importorskip("pandas")
    values, _ = noted(pandas.DataFrame(ROWS).to_json(orient=orient))
    assert [{name: row[name] for name in ROWS[0]} for row in values] == ROWS


def test_only_train_is_read_and_the_others_are_named(noted):
    assert noted(json.dumps({"test": [], "train": ROWS}))[0] == ROWS
    _, notes = noted(json.dumps({"validation": ROWS[:2], "train": ROWS, "test": ROWS[:1]}))
    assert "the list `train`; not read: `validation` (2 rows), `test` (1 row)" in notes


def test_rows_under_labels_know_their_lines(read):
    rows = read("a.json", json.dumps(TABLES["index"], indent=1))
    assert [row.line for row in rows] == [2, 6, 10]


@pytest.mark.parametrize(
    "labelled",
    [{f"id-{n}": row for n, row in enumerate(ROWS * 10)}, {f"id-{n}": ROWS[0] for n in range(20)}],
)
def test_rows_under_labels_of_their_own_are_read(noted, labelled):
    values, notes = noted(json.dumps(labelled))
    assert values == list(labelled.values())
    assert f"its {len(labelled)} keys were read as row labels" in notes


def test_the_columns_of_the_recipe_tell_rows_from_columns(noted):
    few = {"x": ROWS[0], "y": ROWS[1]}
    turned = {name: {"x": ROWS[0][name], "y": ROWS[1][name]} for name in ROWS[0]}
    named = {"columns": {"instruction": "instruction", "response": "response"}}
    assert noted(json.dumps(few, indent=1), **named)[0] == ROWS[:2]
    assert noted(json.dumps(turned, indent=1), **named)[0] == ROWS[:2]
    for unclear in (few, turned):
        with pytest.raises(DataError, match=r'rows and columns cannot be told apart.*orient="records"'):
            noted(json.dumps(unclear, indent=1))


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "response": "a"},
        {"translation": {"en": "q", "de": "a"}},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": "q"}], "tools": [{"name": "t"}]},
        {"question": "q", "answers": {"text": ["a"], "answer_start": [0]}},
        {"inputs": {"text": "q"}, "outputs": {"text": "a"}},
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_one_row_alone_in_its_file_stays_a_row(noted, row, name):
    assert noted(json.dumps(row), name)[0] == [row]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "q", "output": "a", "meta": [{"x": 1}]},
        {"questions": ["q"], "answers": ["a"]},
        {"tags": []},
    ],
)
def test_one_line_of_a_jsonl_file_is_a_row_if_it_can_be(noted, row):
    assert noted(json.dumps(row), "a.jsonl")[0] == [row]


LISTS = [["instruction", "response"], *(list(row.values()) for row in ROWS)]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("as_lines", [True, False])
def test_lists_without_names_are_named_with_the_fix(read, name, as_lines):
    text = "\n".join(map(json.dumps, LISTS)) if as_lines else json.dumps(LISTS)
    message = refusal(read, name, text)
    assert f"{name}:1: the rows are lists, which do not name their columns" in message
    assert "data.columns" in message
    assert "problems" not in message


def test_a_first_list_that_the_recipe_knows_names_the_columns(noted, read):
    named = {"columns": {"instruction": "instruction", "response": "response"}}
    values, notes = noted(json.dumps(LISTS), **named)
    assert values == ROWS
    assert "the first list was read as the names of the columns" in notes
    short = json.dumps([*LISTS, ["q"]])
    assert "a.json:1: row 4 must be an object, but is a list" in refusal(read, "a.json", short, **named)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"a": ["x", "y"], "b": ["z"]}, "columns of different lengths: `a` 2, `b` 1"),
        ({"a": {"0": "x", "1": "y"}, "b": {"0": "z", "2": "y"}}, "rows and columns cannot be told apart"),
        ({"columns": ["a", "b"], "data": [["x", "y"], ["z"]]}, "row 2 is not a list of 2 values"),
        ({"0": {"a": "x"}, "1": "text"}, "without a list of rows"),
        (
            {"dev": ROWS, "test": ROWS},
            "lists `dev` and `test`; exactly one list is needed. Save each list as a separate file",
        ),
        ({"train": COLUMNS, "test": COLUMNS}, "rows and columns cannot be told apart"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_by_its_shape(read, table, told):
    assert told in refusal(read, "a.json", json.dumps(table, indent=1))


def test_columns_of_different_lengths_on_one_line_are_refused_by_their_shape(read):
    message = refusal(read, "a.json", '{"instruction": ["q1", "q2"], "response": ["a"]}')
    assert "columns of different lengths: `instruction` 2, `response` 1" in message


def test_problems_before_a_break_are_told_with_it(read):
    text = json.dumps({"n": 1, "data": [*ROWS, "text", *ROWS]}, indent=1)
    message = refusal(read, "a.json", text[: text.rindex("response")])
    assert "row 4 must be an object, but is text" in message
    assert "the file ends inside row 7" in message
    assert "2 problems in all" in message


@pytest.mark.parametrize("shape", TABLES)
def test_any_shape_cut_anywhere_gives_one_clear_error_or_rows(read, shape):
    text = json.dumps(TABLES[shape], indent=1)
    for cut in range(1, len(text), 7):
        message = refusal(read, "a.json", text[:cut])
        assert message.startswith("a.json")
        assert "q1" not in message


def test_a_key_that_stands_twice_is_refused(read):
    text = '{\n"a": ["x"],\n"b": ["y"],\n"a": ["z"]}'
    assert "the key `a` appears twice" in refusal(read, "a.json", text)
    text = '{\n"a": {"0": "x", "0": "y"},\n"b": {"0": "z"}}'
    assert "`a` has the key `0` 2 times in one object" in refusal(read, "a.json", text)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("gap", ["\n", "\n\n", " ", ""])
def test_objects_one_after_another_over_several_lines_are_read(noted, read, name, gap):
    text = gap.join(json.dumps(row, indent=2) for row in ROWS)
    values, notes = noted(text, name)
    assert values == ROWS
    assert "consecutive JSON objects" in notes
    assert [row.line for row in read(name, text)] == [1 + n * (3 + gap.count("\n")) for n in range(3)]
    assert "the file ends inside row 3" in refusal(read, name, text[:-3])

"""A first look at a file."""

from __future__ import annotations

import json

import pytest
from data_files import good_rows, refusal, write_lines

from loraloom.data.preview import preview
from loraloom.recipe import DataSettings

SETTINGS = DataSettings(train="x")


def test_a_small_file_is_counted_and_measured(tmp_path):
    rows = [{"instruction": "q" * i, "response": "a" * (2 * i), "id": i} for i in range(1, 101)]
    seen = preview(write_lines(tmp_path / "a.jsonl", rows), SETTINGS)
    assert seen.columns == ["instruction", "response", "id"]
    assert (seen.layout, seen.num_rows, seen.exact) == ("instruction/response", 100, True)
    assert seen.source is not None
    assert (seen.source.p50, seen.source.p90, seen.source.longest) == (51, 91, 100)


LARGE = [{"instruction": "q" * 100, "response": "a" * (10 if i < 5_000 else 90)} for i in range(9_013)]


def write(path, rows, shape):
    if shape == "lines":
        return write_lines(path, rows)
    if shape == "table":
        path.write_text("instruction,response\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows if shape == "list" else {"data": rows}))
    return path


SHAPES = [("a.jsonl", "lines"), ("a.json", "list"), ("a.json", "object"), ("a.csv", "table")]


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_the_rows_of_a_large_file_are_counted(tmp_path, name, shape):
    seen = preview(write(tmp_path / name, LARGE, shape), SETTINGS)
    assert (seen.num_rows, seen.exact) == (9_013, True)
    assert not any("estimated" in note for note in seen.notes)


@pytest.mark.parametrize(("name", "shape"), SHAPES)
def test_a_very_large_file_is_estimated_and_that_is_said(tmp_path, monkeypatch, name, shape):
    monkeypatch.setattr("loraloom.data.preview.COUNTED_BYTES", 1_300_000)
    seen = preview(write(tmp_path / name, LARGE, shape), SETTINGS)
    assert not seen.exact
    assert seen.num_rows == pytest.approx(9_013, rel=0.3)
    assert any(f"about {seen.num_rows:,} rows (estimated" in note for note in seen.notes)


def test_a_row_that_is_none_is_refused_wherever_it_stands(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [*LARGE, "text"])
    assert "a.jsonl:9014: row 9014 must be an object, but is text" in refusal(
        preview, path, SETTINGS, shown_as="a.jsonl"
    )


def test_an_unknown_layout_is_refused_with_its_columns_and_no_guess(tmp_path):
    rows = [{"n": 1, "Frage": "q", "Antwort": "a"}] * 3
    message = refusal(preview, write_lines(tmp_path / "a.jsonl", rows), SETTINGS)
    assert "found: `n`, `Frage`, `Antwort`" in message
    assert "instruction: Frage" not in message


def test_a_bad_first_row_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [*good_rows(), {"instruction": "q", "response": None}])
    assert "a.jsonl:21" in refusal(preview, path, SETTINGS, shown_as="a.jsonl")


def test_all_problems_of_a_file_come_at_once_in_file_order(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", good_rows(4))
    path.write_text(path.read_text() + '{"instruction": "q", "response": 5}\n{bad\n{"instruction": "q"}\n')
    message = refusal(preview, path, SETTINGS, shown_as="a.jsonl")
    assert [line.split(":")[1] for line in message.splitlines()[:3]] == ["5", "6", "7"]
    assert "set `data.on_invalid: drop`" in message


def test_bad_rows_are_left_out_of_the_look_where_the_recipe_drops_them(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", good_rows(4))
    path.write_text(path.read_text() + '{"instruction": "q", "response": 5}\n{bad\n')
    seen = preview(path, SETTINGS.model_copy(update={"on_invalid": "drop"}))
    assert seen.layout == "instruction/response"
    assert any("2 invalid rows dropped" in note for note in seen.notes)

"""A first look at a file."""

from __future__ import annotations

import json

import pytest
from data_files import good_rows, refusal, write_lines

from loraloom.data.peek import peek
from loraloom.recipe import DataSettings

SETTINGS = DataSettings(train="x")


def test_a_small_file_is_counted_and_measured(tmp_path):
    rows = [{"instruction": "q" * i, "response": "a" * (2 * i), "id": i} for i in range(1, 101)]
    seen = peek(write_lines(tmp_path / "a.jsonl", rows), SETTINGS)
    assert seen.columns == ["instruction", "response", "id"]
    assert (seen.layout, seen.num_rows, seen.exact) == ("instruction/response", 100, True)
    assert seen.source is not None
    assert (seen.source.p50, seen.source.p90, seen.source.longest) == (51, 91, 100)


@pytest.mark.parametrize("as_list", [True, False])
def test_a_large_file_is_estimated_from_its_first_rows(tmp_path, as_list):
    rows = [{"instruction": "q" * 100, "response": f"{i}"} for i in range(30_000)]
    path = tmp_path / ("a.json" if as_list else "a.jsonl")
    path.write_text(json.dumps(rows)) if as_list else write_lines(path, rows)
    seen = peek(path, SETTINGS)
    assert not seen.exact
    assert seen.num_rows == pytest.approx(30_000, rel=0.3)


def test_an_unknown_layout_is_refused_with_its_columns_and_no_guess(tmp_path):
    rows = [{"n": 1, "Frage": "q", "Antwort": "a"}] * 3
    message = refusal(peek, write_lines(tmp_path / "a.jsonl", rows), SETTINGS)
    assert "found: `n`, `Frage`, `Antwort`" in message
    assert "instruction: Frage" not in message


def test_a_bad_first_row_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [*good_rows(), {"instruction": "q", "response": None}])
    assert "a.jsonl:21" in refusal(peek, path, SETTINGS, shown_as="a.jsonl")

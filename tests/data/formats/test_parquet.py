"""Parquet and the hub."""

from __future__ import annotations

import sys
import types

import pytest
from data_files import good_rows, refusal

from loraloom.data.rows import read_rows
from loraloom.recipe import DataSettings


def test_parquet_rows_have_numbers_and_no_lines(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    rows = good_rows(3_000)
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    read = list(read_rows(tmp_path / "a.parquet", DataSettings(train="x"), shown_as="a.parquet"))
    assert [row.values for row in read] == rows
    assert [(row.number, row.line) for row in read[-2:]] == [(2_999, None), (3_000, None)]
    assert read[0].where == "a.parquet"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"a,b\n1,2\n"])
def test_a_damaged_parquet_file_is_refused(read, content):
    assert "a.parquet: is not a complete Parquet file" in refusal(read, "a.parquet", content)


def hub_that(load):
    module = types.ModuleType("datasets")
    module.load_dataset = load
    return module


def hub_rows(**options):
    name = "hub:owner/name"
    return list(read_rows(types.SimpleNamespace(), DataSettings(train=name, **options), shown_as=name))


def test_a_hub_dataset_is_asked_for_what_the_recipe_says(monkeypatch):
    asked = []

    def load(*args, **kwargs):
        asked.append((args, kwargs))
        return good_rows()

    monkeypatch.setitem(sys.modules, "datasets", hub_that(load))
    assert [row.values for row in hub_rows(hub_config="zh", hub_split="validation")] == good_rows()
    assert asked == [(("owner/name", "zh"), {"split": "validation", "revision": None})]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("https://…"), "cannot be reached"),
        (FileNotFoundError("…"), "no such dataset"),
        (ValueError("Unknown split 'x'.\nmore"), "Unknown split 'x'."),
        (RuntimeError("text of a row"), "RuntimeError"),
    ],
)
def test_a_hub_that_fails_gives_one_clear_error(monkeypatch, error, told):
    def load(*args, **kwargs):
        raise error

    monkeypatch.setitem(sys.modules, "datasets", hub_that(load))
    message = refusal(hub_rows)
    assert message.startswith("hub:owner/name: ")
    assert told in message
    assert "\n" not in message
    assert "text of a row" not in message

"""CSV, TSV, Parquet and the hub."""

from __future__ import annotations

import csv
import io
import sys
import types

import pytest
from data_files import good_rows, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraloom.data.rows import read_rows
from loraloom.recipe import DataSettings


def table(*bad: str, separator: str = ",") -> str:
    """A header and twenty good rows, with the given lines from line 12 on."""
    good = [separator.join(row.values()) for row in good_rows()]
    return "\n".join([separator.join(good_rows()[0]), *good[:10], *bad, *good[10:]]) + "\n"


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_rows_know_their_lines_over_quoted_line_breaks(read, name, separator):
    rows = read(name, table(f'"one\n""two"""{separator}three', "", f"four{separator}", separator=separator))
    assert [row.line for row in rows] == [*range(2, 12), 12, 15, *range(16, 26)]
    assert rows[10].values == {"instruction": 'one\n"two"', "response": "three"}
    assert rows[11].values["response"] == ""


@pytest.mark.parametrize(("cells", "count"), [("a", 1), ("a,b,c", 3), ("a,b,", 3)])
def test_a_row_of_other_length_is_refused_with_its_line(read, cells, count):
    message = refusal(read, "a.csv", table(cells, cells))
    told = "its number of cells is not the header's"
    assert f"a.csv:12: row 11: {told} (found: {count}). Allowed: 2" in message
    assert "a.csv:13: row 12" in message
    assert "2 problems" in message


def test_a_quote_that_nothing_closes_is_refused_where_it_opens(read):
    message = refusal(read, "a.csv", table('"open,b'))
    assert "a.csv:12: row 11 opens a double quote that nothing closes" in message


def test_a_stray_carriage_return_is_refused(read):
    assert "a.csv:12: row 11 has a carriage return outside double quotes" in refusal(
        read, "a.csv", table("a\rb,c")
    )


def test_text_after_a_closing_quote_is_refused(read):
    assert "a.csv:12: row 11 has text right after a closing double quote" in refusal(
        read, "a.csv", table('"a"b,c')
    )


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("a,,b", "cell 2 is empty"),
        ("a,b,a", "cells 1 and 3 are the same name"),
        ("instruction;response", "`;` inside it"),
        ("a\tb", "a tab inside it"),
        ("x" * 100 + ",b", "cell 1 has 100 characters"),
    ],
)
def test_a_header_that_is_none_is_refused(read, header, told):
    message = refusal(read, "a.csv", f"{header}\n1,2\n")
    assert "a.csv:1:" in message
    assert told in message
    assert "x" * 70 not in message


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
            min_size=2,
            max_size=2,
        ),
        min_size=1,
        max_size=5,
    ),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_csv_writes_is_read_back(tmp_path, rows, end):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["p", "q"], *rows])
    (tmp_path / "a.csv").write_bytes(buffer.getvalue().encode())
    read = list(read_rows(tmp_path / "a.csv", DataSettings(train="x"), shown_as="a.csv"))
    assert [list(row.values.values()) for row in read] == rows


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
    assert "a.parquet: is not a whole Parquet file" in refusal(read, "a.parquet", content)


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
    assert asked == [(("owner/name", "zh"), {"split": "validation"})]


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

"""CSV and TSV, as pandas, R, Excel and scripts write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from data_files import good_rows, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraloom.data.formats.row import Findings
from loraloom.data.rows import read_rows, scan_rows
from loraloom.recipe import DataSettings
from loraloom.recipe.legacy import MEANT_IN_0_1

Noted = Callable[..., tuple[list[dict[str, str]], str]]


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    """Write a file and read it back: its rows' values, and the notes as one text."""

    def write_and_read(name: str, text: str, **options: str) -> tuple[list[dict[str, str]], str]:
        (tmp_path / name).write_bytes(text.encode())
        findings = Findings()
        given = DataSettings(train=name, **options)
        rows = list(scan_rows(tmp_path / name, given, shown_as=name, findings=findings))
        findings.raise_problems()
        return [row.values for row in rows], "\n".join(findings.notes)

    return write_and_read


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
    told = "does not have as many cells as the header"
    assert f"a.csv:12: row 11: {told} (found: {count}). Allowed: 2" in message
    assert "a.csv:13: row 12" in message
    assert "2 problems" in message


def test_a_quote_that_nothing_closes_is_refused_where_it_opens(read):
    message = refusal(read, "a.csv", table('"open,b'))
    assert "a.csv:12: row 11 opens a double quote that is never closed" in message


def test_a_stray_carriage_return_is_refused(read):
    assert "a.csv:12: row 11 has a carriage return outside double quotes" in refusal(
        read, "a.csv", table("a\rb,c")
    )


def test_text_after_a_closing_quote_is_refused(read):
    assert "a.csv:12: row 11 has text right after a closing double quote" in refusal(
        read, "a.csv", table('"a"b,c')
    )


def test_rows_that_an_unclosed_quote_took_in_are_never_dropped_as_one_bad_row(read):
    content = table('"open,a', "q,b", '"again,c')
    message = refusal(read, "a.csv", content, on_invalid="drop")
    assert "a.csv:12: row 11 has text right after a closing double quote" in message


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("a,b,a", "cells 1 and 3 of the header contain the same name"),
        ("x" * 100 + ",b", "cell 1 has 100 characters"),
    ],
)
def test_a_header_that_is_none_is_refused(read, header, told):
    message = refusal(read, "a.csv", f"{header}\n1,2\n")
    assert "a.csv:1:" in message
    assert told in message
    assert "x" * 70 not in message


def test_the_header_that_is_suggested_names_a_tab(read):
    message = refusal(read, "a.tsv", "x" * 100 + "\tb\n1\t2\n")
    assert "Add a header line such as `instruction` and `response`, separated by a tab." in message
    assert message.isprintable()


def test_a_separator_that_the_header_does_not_have_is_refused(read):
    message = refusal(read, "a.csv", "instruction;response\n1;2\n", delimiter="|")
    assert "a.csv:1: the header has one column, which contains `;`" in message
    assert "data.delimiter" in message


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
    rows = [["x", "y"], *(row for row in rows if "".join(row).strip())]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([["p", "q"], *rows])
    (tmp_path / "a.csv").write_bytes(buffer.getvalue().encode())
    read = list(read_rows(tmp_path / "a.csv", DataSettings(train="x"), shown_as="a.csv"))
    assert [list(row.values.values()) for row in read] == rows


PAIRS = [{"q": "a", "r": "b"}, {"q": "c", "r": "d"}]
AS_TEXT, AS_CSV = "were read as part of the text", "were read as enclosing cells"


@pytest.mark.parametrize(
    ("rows", "read_as"),
    [
        (['"Hi," he said', '"quoted"'], ['"Hi," he said', '"quoted"']),
        (['one "open', 'close" two'], ['one "open', 'close" two']),
        (['"open', 'close"'], ['"open', 'close"']),
        (['"never closed', "x"], ['"never closed', "x"]),
        (["x", '"a quotation"'], ["x", '"a quotation"']),
        (['5" disk', '"a" and "b"'], ['5" disk', '"a" and "b"']),
    ],
)
@pytest.mark.parametrize("at_end", [True, False])
def test_quotes_in_plain_tsv_are_text(noted, rows, read_as, at_end):
    lines = [f"x\t{cell}" if at_end else f"{cell}\tx" for cell in rows]
    values, notes = noted("a.tsv", "\n".join(["q\tr", *lines]) + "\n")
    assert [row["r" if at_end else "q"] for row in values] == read_as
    assert (AS_TEXT in notes) == any(cell.startswith('"') for cell in rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('q\tr\n"a ""b"""\tc\n', {"q": 'a "b"', "r": "c"}),
        ('q\tr\na\t"tab\there"\n', {"q": "a", "r": "tab\there"}),
        ('q\tr\na\t"two\n\nlines"\n', {"q": "a", "r": "two\n\nlines"}),
        ('"q"\t"r"\n"a"\t"c"\n', {"q": "a", "r": "c"}),
        ('q\tr\tn\n"a"\t"c"\t1.5\n"d"\t"e"\t2\n', {"q": "a", "r": "c", "n": "1.5"}),
    ],
)
def test_tsv_that_is_quoted_like_csv_is_seen_and_noted(noted, text, expected):
    values, notes = noted("a.tsv", text)
    assert values[0] == expected
    assert AS_CSV in notes
    assert noted("a.csv", text)[0] == values  # tabs in a .csv file are no other TSV


@pytest.mark.parametrize("quoting", ["csv", "none"])
def test_what_the_recipe_says_of_quotes_holds(noted, quoting):
    values, notes = noted("a.tsv", 'q\tr\n"a"\tb\nc\td\n', quoting=quoting)
    assert values[0]["q"] == ("a" if quoting == "csv" else '"a"')
    assert notes == ""


def test_0_1_read_every_tsv_like_csv(noted):
    values, _ = noted("a.tsv", 'q\tr\n"a"\tb\nc\td\n', quoting=MEANT_IN_0_1["data", "quoting"])
    assert values[0]["q"] == "a"


def test_a_bad_line_of_a_plain_tsv_is_one_problem(read):
    text = 'q\tr\n"Hi" she said\tb\nthree\tcells\there\nx\t"open\n'
    message = refusal(read, "a.tsv", text)
    assert "a.tsv:3: row 2: does not have as many cells as the header (found: 3)" in message
    assert "data.quoting: csv" in message
    assert "problems in all" not in message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(*[st.text(st.sampled_from('ab" \t\n'), min_size=1)] * 2), min_size=1, max_size=5),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_csv_writes_with_tabs_is_read_back(noted, rows, quoting):
    rows = [("x", 'a "quote" inside, as most files have'), *rows]
    if any(not "".join(row).strip() for row in rows):
        rows = rows[:1]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t", lineterminator="\n", quoting=quoting).writerows([["q", "r"], *rows])
    assert [tuple(row.values()) for row in noted("a.tsv", buffer.getvalue())[0]] == rows


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.text(st.sampled_from('ab" '), min_size=1)] * 2), min_size=1, max_size=5))
def test_plain_tsv_is_read_back(noted, rows):
    rows = [("x", 'some say "hi"'), *(row for row in rows if "".join(row).strip())]
    text = "q\tr\n" + "".join("\t".join(row) + "\n" for row in rows)
    assert [tuple(row.values()) for row in noted("a.tsv", text)[0]] == rows


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize(
    ("mark", "called"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")]
)
def test_the_separator_is_found_and_noted(noted, name, mark, called):
    text = (
        f"q,1{mark}r;2\na{mark}b\nc; c{mark}d, d, d\n" if mark in "\t|" else f"q{mark}r\na{mark}b\nc{mark}d\n"
    )
    values, notes = noted(name, text)
    assert [next(iter(row.values()))[0] for row in values] == ["a", "c"]
    assert len(values[0]) == 2
    usual = {"a.csv": ",", "a.tsv": "\t"}[name]
    assert (called in notes) == (mark != usual)


def test_a_file_that_fits_its_suffix_is_never_read_otherwise(noted):
    values, notes = noted("a.csv", "q;x,r\na;b,c\nd;e,f\n")
    assert values == [{"q;x": "a;b", "r": "c"}, {"q;x": "d;e", "r": "f"}]
    assert notes == ""
    assert noted("a.csv", "q;x;y,r\na;b;c,d\n")[0] == [{"q;x;y": "a;b;c", "r": "d"}]


@pytest.mark.parametrize(("said", "mark"), [("~", "~"), ("tab", "\t"), ("\\t", "\t"), ("\t", "\t")])
def test_the_separator_can_be_said(noted, said, mark):
    assert noted("a.csv", f"q{mark}r\na,b{mark}c\n", delimiter=said)[0] == [{"q": "a,b", "r": "c"}]


@pytest.mark.parametrize("said", ["", ",,", '"', "\n"])
def test_a_separator_is_one_character(said):
    with pytest.raises(ValueError, match="must be `tab`, or one character"):
        DataSettings(train="x", delimiter=said)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("line", ["sep={}", '"sep={}"', "SEP={}"])
def test_the_line_that_excel_writes_on_top_is_no_row(read, mark, line):
    rows = read(
        "a.csv", "\r\n".join([line.format(mark), f"q{mark}r", f"a{mark}b", f'"c\nc"{mark}d', f"e{mark}f"])
    )
    assert [(row.number, row.line) for row in rows] == [(1, 3), (2, 4), (3, 6)]
    assert rows[0].values == PAIRS[0]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (",q,r\n0,a,b\n17,c,d\n", "index column at the front, which has no name"),
        (",,q,r\n0,1,a,b\n0,2,c,d\n", "index column at the front, which has no name"),
        ("q,r,\na,b,\nc,d,\n", "skipped 1 empty column without a name"),
        ("q,r,,\na,b,,\nc,d,,\n", "skipped 2 empty columns"),
        ("q,,r\na,,b\nc, ,d\n", "skipped 1 empty column "),
        ("q,r\na,b,\nc,d,\n", "skipped 1 empty column "),
        ("q,r,\na,b\nc,d\n", "skipped 1 empty column "),
        (",q,r,\n0,a,b,\n1,c,d,\n", "skipped 1 empty column "),
        ("q,r\na,b\n,\n,\nc,d\n,\n", "skipped 3 rows that contain only separators"),
        (",\nq,r\na,b\nc,d\n\n", ""),
    ],
)
def test_what_pandas_and_excel_add_is_left_out_with_a_note(noted, text, note):
    values, notes = noted("a.csv", text)
    assert values == PAIRS
    assert note in notes
    assert bool(notes) == bool(note)


def test_blank_rows_count_as_in_a_spreadsheet(read):
    rows = read("a.csv", "q,r\na,b\n,\n\nc,d\n")
    assert [(row.number, row.line) for row in rows] == [(1, 2), (3, 5)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (",q,r\nfirst,a,b\n", "a.csv:2: row 1 has text in column 1, which the header does not name"),
        ("q,r,\na,b,\nc,d,more\n", "a.csv:3: row 2 has text in column 3"),
        ("q,r,\na,b,7\n", "row 1 has text in column 3"),
        ("q,r\na,b\nc,d,\n", "a.csv:3: row 2: does not have as many cells as the header (found: 3)"),
    ],
)
def test_text_without_a_column_is_never_left_out(read, text, told):
    assert told in refusal(read, "a.csv", text)


def test_row_names_of_r_are_named_in_the_fix(read):
    assert "R's row names" in refusal(read, "a.csv", '"q","r"\n"1","a","b"\n')


def test_quotes_behind_a_space_are_kept_and_noted(noted):
    values, notes = noted("a.csv", 'q,r\n"a", "b"\n')
    assert values == [{"q": "a", "r": ' "b"'}]
    assert "a space before their double quotes" in notes


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_what_pandas_writes_is_read_back(noted, tmp_path, mark, index, name):
    pandas = pytest.importorskip("pandas")
    rows = [
        {"q": 'He said "no, no", and; left', "r": "two\nlines"},
        {"q": '"quoted"', "r": "tab\there"},
        {"q": " plain ", "r": "x"},
    ]
    text = pandas.DataFrame(rows).to_csv(sep=mark, index=index)
    values, notes = noted(name, text)
    assert values == rows
    assert ("index column at the front, which has no name" in notes) == index
    assert (AS_CSV in notes) == (mark == "\t")


def test_a_row_that_none_can_read_is_refused_with_the_way_out(read):
    message = refusal(read, "a.csv", 'q,r\n"Hi," he said,b\n')
    assert "data.quoting: none" in message
    rows = read("a.csv", 'q;r\n"Hi," he said;b\n', quoting="none")
    assert rows[0].values == {"q": '"Hi," he said', "r": "b"}


def test_rows_that_quotes_may_have_melted_together_are_noted(noted):
    melted = 'q,r\na,"open\nb,close"\nc,d\n'
    values, notes = noted("a.csv", melted)
    assert values[0] == {"q": "a", "r": "open\nb,close"}  # so CSV says
    assert "although each line could be a separate row: 1, the first on line 2" in notes
    assert [row["r"] for row in noted("a.csv", melted, quoting="none")[0]] == ['"open', 'close"', "d"]
    spanning = 'q,r\na,"one\ntwo"\nb,"one, two,\nthree"\nc,"x\ny,z"\n'
    assert noted("a.csv", spanning)[1] == ""

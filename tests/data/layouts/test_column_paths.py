"""Names of what is inside a column."""

from __future__ import annotations

import pytest
from data_files import refusal

from loraloom.data.layouts.column_paths import column_of, names_in, value_at
from loraloom.data.layouts.exchange import MISSING

ROW = {
    "id": 7,
    "translation": {"de": "Haus", "en": "house", "pt-BR": "casa"},
    "answers": {"text": ["yes", "no"], "start": [1, 2]},
    "turns": [{"text": "first"}, {"text": "last"}],
    "grid": [["a", "b"], ["c"]],
    "a.b": "flat",
    "x": {"y.z": "inner", "y": {"z": "deep"}},
    "none": None,
    "empty": {"text": []},
    "odd[0]": "column",
    "": "unnamed",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 7),
        ("translation.de", "Haus"),
        ("translation.pt-BR", "casa"),
        ("answers.text[0]", "yes"),
        ("answers.text[-1]", "no"),
        ("turns[1].text", "last"),
        ("turns[-2].text", "first"),
        ("grid[1][0]", "c"),
        ("a.b", "flat"),
        ("x.y.z", "inner"),
        ("odd[0]", "column"),
        ("answers.text", ["yes", "no"]),
        ("", "unnamed"),
        ("none.text", None),
        ("none.text[0]", None),
        ("empty.text[0]", None),
        ("answers.text[2]", None),
        ("answers.text[-3]", None),
        ("translation.fr", MISSING),
        ("gone.de", MISSING),
        ("id.de", MISSING),
        ("id[0]", MISSING),
        ("translation[0]", MISSING),
        ("answers.text[x]", MISSING),
        ("answers.text[0", MISSING),
        ("answers.text[0]x", MISSING),
        ("answers..text", MISSING),
        (".translation", MISSING),
        ("translation.", MISSING),
        ("." * 10_000, MISSING),
    ],
)
def test_values(name, value):
    assert value_at(ROW, name) == value


def test_a_column_with_dots_goes_before_a_path():
    assert value_at({"translation.de": "flat", "translation": {"de": "deep"}}, "translation.de") == "flat"


def test_names_of_columns():
    assert column_of(ROW, "translation.de") == "translation"
    assert column_of(ROW, "turns[0].text") == "turns"
    assert column_of(ROW, "a.b") == "a.b"
    found = names_in([{"translation": {"de": 1, "en": 2}, "answers": {"text": ["x"], "start": [1]}, "id": 1}])
    assert found == ["translation.de", "translation.en", "answers.text[0]", "answers.start", "id"]


def squad(number, answers):
    return {"id": str(number), "question": f"q{number}", "ctx": f"c{number}", "answers": {"text": answers}}


COLUMNS = {"instruction": "question", "input": "ctx", "response": "answers.text[0]"}


def test_mapped_columns_reach_inside(load):
    read = load([squad(i, [f"a{i}", "other"]) for i in range(5)], columns=COLUMNS)
    assert [(e.source, e.response) for e in read.examples][:2] == [("q0\nc0", "a0"), ("q1\nc1", "a1")]
    assert read.layout == "question/ctx/answers.text[0]"
    assert any("unused columns: `id`" in note and "answers" not in note for note in read.notes)


def test_an_answer_that_is_not_there_is_an_empty_row(load):
    rows = [squad(1, ["a"]), squad(2, []), squad(3, ["b"])]
    message = refusal(load, rows, columns=COLUMNS)
    assert "data.jsonl:2: row 2: `answers.text[0]` is null" in message
    assert "data.on_empty: drop" in message
    assert [e.row for e in load(rows, columns=COLUMNS, on_empty="drop").examples] == [1, 3]


def test_a_key_that_only_some_rows_lack_is_missing(load):
    rows = [{"t": {"de": "a", "en": "b"}}, {"t": {"de": "c"}}]
    columns = {"instruction": "t.de", "response": "t.en"}
    assert "row 2: `t.en` is missing" in refusal(load, rows, columns=columns)


def test_a_path_that_leads_nowhere_is_refused_with_those_that_do(load):
    message = refusal(load, [squad(1, ["a"])], columns={**COLUMNS, "response": "answers.txt[0]"})
    assert "data.columns.response: there is no column `answers.txt[0]`" in message
    assert "`answers.text[0]`" in message


def test_one_of_three_languages_and_a_template(load):
    rows = [{"translation": {"de": f"de{i}", "en": f"en{i}", "fr": f"fr{i}"}} for i in range(3)]
    columns = {"instruction": "translation.de", "response": "translation.fr"}
    read = load(rows, columns=columns, source_prefix="{translation.de} ({translation.en}): ")
    assert read.examples[1].source == "de1 (en1): "
    assert read.examples[1].response == "fr1"
    message = refusal(load, rows, columns=columns, source_prefix="{translation.it}")
    assert "there is no column `translation.it`" in message
    assert "`translation.en`" in message
    told = refusal(load, rows, columns=columns, source_prefix="{translation.fr}")
    assert "puts `translation.fr`, the answer, into the source" in told


def test_text_inside_is_checked_like_any_other(load):
    rows = [{"t": {"de": "a\u0000", "en": 1}}]
    message = refusal(load, rows, columns={"instruction": "t.de", "response": "t.en"})
    assert "`t.de` contains NUL" in message
    assert "`t.en` must be text, but is a number" in message

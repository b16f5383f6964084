"""JSON in its shapes: exact lines and columns, and nothing accepted that another reader would alter."""

from __future__ import annotations

import json
import random
from unittest import mock

import pytest
from data_files import good_rows, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraloom.data.formats import text as text_module
from loraloom.data.formats.row import Findings
from loraloom.data.rows import read_rows, scan_rows
from loraloom.recipe import DataSettings

SETTINGS = DataSettings(train="x")
GOOD = [json.dumps(row, ensure_ascii=False) for row in good_rows()]


def in_list(*bad: str) -> str:
    """A list, one row a line from line 2 on, with the given ones from line 12."""
    return "[\n" + ",\n".join([*GOOD[:10], *bad, *GOOD[10:]]) + "\n]\n"


def test_a_bad_line_has_its_line_and_column_and_the_others_are_read_on(read, around):
    content = around(
        '{"instruction": "q" "response": "a"}', '{"instruction": "q", "response": "a"}', "{'a': 1}"
    )
    message = refusal(read, "data.jsonl", content)
    assert "data.jsonl:11:21: row 11 is not valid JSON: expecting ',' delimiter" in message
    assert "data.jsonl:13:2: row 13" in message
    assert "double quotes" in message
    assert "2 problems in all" in message


@pytest.mark.parametrize("bad", ["garbage", '["a"]', '{"a": ', "<html>"])
def test_a_bad_first_line_is_one_bad_row(read, bad):
    message = refusal(read, "data.jsonl", "\n".join([bad, *GOOD]))
    assert message.startswith("data.jsonl:1")
    assert "row 1" in message
    assert "problems in all" not in message


def test_a_bad_row_of_a_list_has_its_line_and_column(read):
    message = refusal(read, "data.json", in_list('{"instruction": "q" "response": "a"}'))
    assert "data.json:12:21: row 11 is not valid JSON" in message


@pytest.mark.parametrize("cut", [2, 30, 200, 333])
def test_a_truncated_list_says_which_row_and_where(read, cut):
    content = in_list()[:-cut]
    message = refusal(read, "data.json", content)
    line = content.count("\n") + 1
    assert f"data.json:{line}:" in message
    assert "the file ends" in message
    assert "truncated" in message


def test_two_objects_on_a_line_are_refused_at_the_second(read, around):
    message = refusal(read, "data.jsonl", around('{"a": 1} {"b": 2}', '{"a": 1}, '))
    assert "data.jsonl:11:10: row 11: there is more text after its object" in message
    assert "data.jsonl:12:9:" in message


def test_missing_and_trailing_commas_in_a_list(read):
    assert "data.json:3:1: after row 1, a comma or `]` is missing" in refusal(
        read, "data.json", "[\n{}\n{}\n]"
    )
    assert "data.json:3:1: row 2 is not valid JSON: expecting value" in refusal(
        read, "data.json", "[\n{},\n]"
    )
    assert "data.json:2:1: there is more text after the end of the list" in refusal(
        read, "data.json", '[{"a": 1}]\n]'
    )


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
def test_a_key_that_stands_twice_is_refused_with_its_line(read, around, name):
    bad = '{"instruction": "a", "instruction": "b", "response": "c"}', '{"instruction": {"x": 1, "x": 2}}'
    message = refusal(read, name, around(*bad) if name == "data.jsonl" else in_list(*bad))
    line = 11 if name == "data.jsonl" else 12
    assert f"{name}:{line}: row 11 has the key `instruction` 2 times" in message
    assert f"{name}:{line + 1}: row 12 has the key `x` 2 times" in message


@pytest.mark.parametrize("char", ["\x00", "\x01", "\t", "\x1f"])
def test_a_raw_control_character_is_refused_with_line_and_column(read, around, char):
    assert "data.jsonl:11:8: row 11 is not valid JSON: invalid control character" in refusal(
        read, "data.jsonl", around(f'{{"a": "{char}"}}')
    )


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [150, 3_000, 100_000])
def test_deep_nesting_is_refused_with_its_line(read, around, levels, opening):
    closing = {"[": "]", '{"a":': "}"}[opening]
    deep = '{"instruction": ' + opening * levels + "1" + closing * levels + "}"
    assert "data.jsonl:11: row 11 is nested more than 100 levels deep" in refusal(
        read, "data.jsonl", around(deep)
    )
    assert "data.json:12: row 11 is nested more than 100 levels deep" in refusal(
        read, "data.json", in_list(deep)
    )


def test_many_brackets_side_by_side_or_inside_text_are_not_deep(read, around):
    wide = json.dumps({"a": [[i] for i in range(500)], "b": "[" * 500 + '"\\{'})
    assert read("data.jsonl", around(wide))[10].values == json.loads(wide)


@pytest.mark.parametrize(
    ("value", "told"), [("1" * 5_000, "5000 digits"), ("1e999", "too large"), ("-" + "9" * 4_301, "digits")]
)
def test_numbers_that_cannot_be_held_are_refused_with_their_line(read, around, value, told):
    message = refusal(read, "data.jsonl", around(f'{{"a": {value}}}'))
    assert "data.jsonl:11: row 11 contains a number" in message
    assert told in message


@pytest.mark.parametrize(
    ("value", "kind"),
    [("null", "null"), ("[1]", "a list"), ('"text"', "text"), ("3", "a number"), ("true", "true")],
)
def test_a_row_that_is_no_object_is_refused(read, around, value, kind):
    assert f"data.jsonl:11: row 11 must be an object, but is {kind}" in refusal(
        read, "data.jsonl", around(value)
    )
    assert f"data.json:12: row 11 must be an object, but is {kind}" in refusal(
        read, "data.json", in_list(value)
    )


def test_line_separators_in_text_and_crlf_are_accepted(read):
    rows = [{"instruction": "a\u2028b\u2029c\x85d", "response": "e\r\nf"}] * 3
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\r\n"
    assert [(row.line, row.values) for row in read("data.jsonl", text)] == list(enumerate(rows, start=1))
    listed = json.dumps(rows, ensure_ascii=False, indent=2).replace("\n", "\r\n")
    assert [(row.line, row.values) for row in read("data.json", listed)] == list(
        zip((2, 6, 10), rows, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "text", "noted"),
    [
        ("data.json", "\n".join(GOOD), "one JSON object per line"),
        ("data.json", GOOD[0], "one JSON object per line"),
        ("data.jsonl", "[" + ",".join(GOOD) + "]", "one JSON list"),
        ("data.json", '{"data": [' + ",".join(GOOD) + "]}", "the list `data`"),
        (
            "data.json",
            '{"version": "1", "data": [\n' + ",\n".join(GOOD) + '\n],\n "n": [1]}',
            "the list `data`",
        ),
        ("data.json", json.dumps({"n": 1, "rows": good_rows()}, indent=1), "the list `rows`"),
        ("data.json", '{"data": [\n' + GOOD[0] + "\n]}", "the list `data`"),
    ],
)
def test_the_shape_is_seen_from_the_content_and_noted(tmp_path, name, text, noted):
    (tmp_path / name).write_text(text, encoding="utf-8")
    findings = Findings()
    rows = list(scan_rows(tmp_path / name, SETTINGS, shown_as=name, findings=findings))
    assert not findings.problems
    assert [row.values for row in rows] == good_rows(len(rows))
    assert any(noted in note for note in findings.notes)


def test_one_conversation_on_a_line_is_a_row_and_not_a_file(read):
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert [r.values for r in read("data.json", json.dumps(row))] == [row]
    assert [r.values for r in read("data.jsonl", json.dumps(row))] == [row]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n "dev": [{"a": 1}],\n "test": [{"a": 1}]\n}', "lists `dev` and `test`"),
        ('{\n "a": 1\n}', "without a list of rows"),
        ('{\n "a": ["x"], "n": 1\n}', "`a` is not a list of objects"),
        ("<!DOCTYPE html>", "web page"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("instruction,response", "neither `[` nor `{`"),
        ('{\n "a" 1}', "a colon is missing"),
        ('{\n "data": [{"a": 1}]', "a comma or `}` is missing"),
        ("{\n a: 1}", "a key in double quotes"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(read, text, told):
    assert told in refusal(read, "data.json", text)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    indent=st.sampled_from([None, 0, 1, 4]),
    ascii_only=st.booleans(),
    gap=st.sampled_from(["", " ", "\n", "\r\n\t", "\n\n  "]),
    chunk_bytes=st.sampled_from([1, 3, 7, 64, 1 << 16]),
)
def test_whatever_json_writes_as_a_list_is_read_back_with_its_lines(
    tmp_path, rows, indent, ascii_only, gap, chunk_bytes
):
    texts = [json.dumps(row, indent=indent, ensure_ascii=ascii_only) for row in rows]
    content = (gap + "[" + gap + f"{gap},{gap}".join(texts) + gap + "]" + gap).encode()
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with mock.patch.object(text_module, "CHUNK_BYTES", chunk_bytes):
        read = list(read_rows(path, SETTINGS, shown_as="data.json"))
    assert [row.values for row in read] == rows
    assert [row.number for row in read] == list(range(1, len(rows) + 1))
    decoded, place = content.decode(), 0
    for row, text in zip(read, texts, strict=True):
        place = decoded.index(text, place)
        assert row.line == decoded.count("\n", 0, place) + 1
        place += len(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, ascii_only=st.booleans(), data=st.data(), chunk_bytes=st.sampled_from([1, 5, 64, 1 << 16]))
def test_whatever_json_writes_as_lines_is_read_back_with_its_lines(
    tmp_path, rows, ascii_only, data, chunk_bytes
):
    rows = [*rows, {"last": 1}]  # one line alone may be a whole table
    lines: list[str] = []
    expected: list[int] = []
    for row in rows:
        lines += [""] * data.draw(st.integers(0, 2))
        lines.append(json.dumps(row, ensure_ascii=ascii_only))
        expected.append(len(lines))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    path = tmp_path / "data.jsonl"
    path.write_bytes(end.join(lines).encode() + end.encode() * data.draw(st.integers(0, 2)))
    with mock.patch.object(text_module, "CHUNK_BYTES", chunk_bytes):
        read = list(read_rows(path, SETTINGS, shown_as="data.jsonl"))
    assert [(row.line, row.values) for row in read] == list(zip(expected, rows, strict=True))


def test_any_spoiled_byte_gives_rows_or_one_clear_error(read):
    """Deletions, changes and doublings at random places: never another exception."""
    random_source = random.Random(7)
    base = in_list().encode()
    for _ in range(100):
        spoiled = bytearray(base)
        at = random_source.randrange(len(spoiled))
        change = random_source.choice(["delete", "set", "double"])
        if change == "delete":
            del spoiled[at]
        elif change == "set":
            spoiled[at] = random_source.randrange(256)
        else:
            spoiled[at:at] = spoiled[at : at + 9]
        for name in ("data.json", "data.jsonl", "data.csv"):
            try:
                read(name, bytes(spoiled))
            except text_module.DataError as error:
                assert name in str(error)  # noqa: PT017

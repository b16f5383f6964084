"""`data.on_invalid: drop`: which rows it leaves out, what is told of them, and what it never lets pass."""

from __future__ import annotations

import json

import pytest
from data_files import good_rows, refusal, restored, write_lines

from loraloom.data.prompts.prompts import read_prompts
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import DataSettings

BAD = {
    '{"instruction": "geheim", "response": }': "is not valid JSON: expecting value",
    '["geheim"]': "must be an object, but is a list",
    '{"instruction": "geheim"}': "`response` is missing",
    '{"instruction": "geheim", "response": 5}': "`response` must be text, but is a number",
    '{"instruction": "geheim", "response": null}': "`response` is null",
    '{"instruction": "geheim", "response": " "}': "`response` is blank",
    '{"instruction": "geheim", "response": {"a": "geheim"}}': "`response` must be text, but is an object",
    '{"instruction": "geheim", "instruction": "x", "response": "y"}': "has the key `instruction` 2 times",
    '{"instruction": "geheim\\u0000", "response": "y"}': "`instruction` contains NUL",
    '{"instruction": "geheim", "response": "y"} {}': "there is more text after its object on the same line",
}


@pytest.fixture
def split(tmp_path):
    """Write a file, and split it with its bad rows dropped."""

    def write_and_split(name, content, **options):
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        settings = DataSettings(train=name, **{"eval": 0, "on_invalid": "drop", **options})
        return split_examples(settings.in_folder(tmp_path))

    return write_and_split


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_bad_row_is_left_out_and_told_of_without_its_text(split, around, bad):
    read = split("data.jsonl", around(bad))
    assert [example.row for example in read.train] == [*range(1, 11), *range(12, 22)]
    (note,) = [note for note in read.notes if "dropped" in note]
    assert note.startswith("data.jsonl: 1 invalid row dropped (data.on_invalid: drop): line 11: ")
    assert BAD[bad] in note
    ((path, number, where, why),) = read.to_json()["dropped"]
    assert (path, number, where.split(":")[:2]) == ("data.jsonl", 11, ["data.jsonl", "11"])
    assert BAD[bad] in why
    assert "geheim" not in json.dumps(read.to_json()) + note


def test_all_are_counted_and_listed_by_reason(split, around):
    lines = ['{"instruction": "x"}'] * 30 + ['{"instruction": "x", "response": 1}'] * 2
    read = split("data.jsonl", around(*lines))
    (note,) = [note for note in read.notes if "dropped" in note]
    assert "32 invalid rows dropped" in note
    assert "lines 11, 12, 13," in note
    assert "30 and 10 more: `response` is missing" in note
    assert "lines 41, 42: `response` must be text, but is a number" in note
    assert [row[1] for row in read.to_json()["dropped"]] == list(range(11, 43))


def test_a_row_with_two_problems_counts_once(split, around):
    read = split("data.jsonl", around('{"instruction": 1, "response": 2}'))
    assert len(read.dropped["data.jsonl"]) == 1


def test_no_turn_of_a_bad_conversation_is_kept(split):
    def talk(number, last):
        turns = [("user", f"u{number}"), ("assistant", "a"), ("user", f"v{number}"), ("assistant", last)]
        return {"messages": [{"role": role, "content": text} for role, text in turns]}

    rows = [talk(1, "b"), talk(2, 5), talk(3, "b")]
    read = split("data.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    assert [(example.row, example.turn) for example in read.train] == [(1, 1), (1, 2), (3, 1), (3, 2)]


def test_rows_of_tables_and_lists(split):
    read = split("data.csv", "instruction,response\na,b\nc,d,e\nf\ng,h\n")
    assert [example.source for example in read.train] == ["a", "g"]
    assert [row.place for row in read.dropped["data.csv"]] == ["3", "4"]
    listed = json.dumps([*good_rows(2), 7, *good_rows(1)], indent=0)
    read = split("data.json", listed)
    assert [row.number for row in read.dropped["data.json"]] == [3]


def test_rows_of_a_format_without_lines_are_listed_by_number(split, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    rows = [*good_rows(3), {"instruction": "x", "response": None}, *good_rows(1)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    read = split("data.parquet", (tmp_path / "data.parquet").read_bytes())
    assert any(
        "1 invalid row dropped (data.on_invalid: drop): row 4: `response` is null" in n for n in read.notes
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "data.csv",
            'instruction,response\na,b\n"c,d\ne,f\ng,h\n',
            "opens a double quote that is never closed",
        ),
        ("data.json", '[{"instruction": "a", "response": "b"}, {"instruction": "c", "resp', "the file ends"),
        ("data.json", '[{"instruction": "a", "response": "b"}, {"x" 1}, {"y": 2}]', "not valid JSON"),
        ("data.jsonl", b'{"instruction": "a", "response": "b"}\n\xff\xfe\n', "not valid utf-8"),
        ("data.csv", "instruction,instruction\na,b\n", "contain the same name"),
    ],
)
def test_what_would_take_other_rows_along_is_still_an_error(split, name, content, told):
    assert told in refusal(split, name, content)


def test_a_file_of_bad_rows_alone_is_an_error(split):
    message = refusal(split, "data.jsonl", '{"instruction": "a"\n' * 3)
    assert "data.jsonl: no rows are left: 3 were invalid" in message
    rows = '{"instruction": "a", "response": 1}\n{"instruction": "b", "response": ""}\n'
    message = refusal(split, "data.jsonl", rows, on_empty="drop")
    assert "no rows are left: 1 was empty and 1 was invalid" in message


def test_the_setting_is_named_once_where_it_would_help(split, around):
    message = refusal(split, "data.jsonl", around("{", "{"), on_invalid="error")
    assert message.count("data.on_invalid: drop") == 1
    assert "data.on_invalid" not in refusal(split, "data.jsonl", b"\xff" * 9, on_invalid="error")


def test_rows_to_answer_are_never_dropped(tmp_path):
    write_lines(tmp_path / "p.jsonl", [*good_rows(2), {"instruction": 5}])
    settings = DataSettings(train="x", on_invalid="drop")
    message = refusal(read_prompts, tmp_path / "p.jsonl", settings, shown_as="p.jsonl")
    assert "p.jsonl:3: row 3" in message
    assert "data.on_invalid" not in message


def test_the_same_rows_come_back(tmp_path):
    write_lines(tmp_path / "a.jsonl", [*good_rows(5), {"instruction": "x"}, *good_rows(9)[5:]])
    settings = DataSettings(train="a.jsonl", eval=2, on_invalid="drop")
    before = split_examples(settings.in_folder(tmp_path))
    assert restored(before.to_json(), settings.in_folder(tmp_path)) == before

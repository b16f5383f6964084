"""Data that cannot be right: one message with file, line, what was found and the fix, and nothing left."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path

import pytest

from tests.flows.conftest import Project, assert_refused, rows

GOOD = '{"instruction": "朋友", "response": "好"}'
LINES = f"{GOOD}\n" * 3
TEXT = json.dumps(rows(12), ensure_ascii=False)

# The row of bad-inputs.md it stands for → (file, its bytes, what the message says).
REFUSED: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "1 an empty file": ("bad.json", b"", ("bad.json", "0 rows")),
    "1 empty lines": ("bad.jsonl", b"", ("bad.jsonl", "0 rows")),
    "1 an empty table": ("bad.csv", b"", ("bad.csv",)),
    "1 an empty array": ("bad.json", b"[]", ("bad.json", "0 rows")),
    "2 white space": ("bad.json", b" \n\t\n", ("bad.json", "0 rows")),
    "4 UTF-16": ("bad.json", TEXT.encode("utf-16"), ("bad.json", "data.encoding: utf-16")),
    "5 GBK": ("bad.json", TEXT.encode("gbk"), ("bad.json", "data.encoding: gb")),
    "6 GB18030": ("bad.json", f"{TEXT}𠀀".encode("gb18030"), ("bad.json", "data.encoding: gb18030")),
    "7 a bad line": ("bad.jsonl", f'{LINES}{{"instruction": "x", }}\n'.encode(), ("bad.jsonl:4:",)),
    "8 a truncated array": ("bad.json", TEXT[:-30].encode(), ("bad.json:1:",)),
    "9 two objects on a line": ("bad.jsonl", f"{LINES}{GOOD} {GOOD}\n".encode(), ("bad.jsonl:4:",)),
    "10 NaN": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": NaN}}'.encode(),
        ("bad.jsonl:4", "`response` is nan"),
    ),
    "11 null": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": null}}'.encode(),
        ("bad.jsonl:4", "`response`", "null"),
    ),
    "12 a missing field": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x"}}'.encode(),
        ("bad.jsonl:4", "`response`", "missing"),
    ),
    "12 a field that no row has": ("bad.jsonl", b'{"instruction": "x"}\n' * 3, ("bad.jsonl", "instruction")),
    "15 a number": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": 7}}'.encode(),
        ("bad.jsonl:4", "data.stringify: true"),
    ),
    "17 a key twice": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": "a", "response": "b"}}'.encode(),
        ("bad.jsonl:4", "response"),
    ),
    "21 deep nesting": ("bad.json", b"[" * 3000, ("bad.json:1",)),
    "24 an invalid byte": ("bad.jsonl", LINES.encode() + b'{"instruction": "\xff"}', ("bad.jsonl", "byte")),
    "28 an empty response": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": ""}}'.encode(),
        ("bad.jsonl:4", "`response` is empty", "data.on_empty: drop"),
    ),
    "29 a blank response": (
        "bad.jsonl",
        f'{LINES}{{"instruction": "x", "response": " \\u3000"}}'.encode(),
        ("bad.jsonl:4", "`response` is blank", "data.on_empty: drop"),
    ),
    "35 one row": ("bad.json", f"[{GOOD}]".encode(), ("bad.json", "1 row", "`data.eval: 0`")),
    "a suffix that says nothing": ("bad.data", TEXT.encode(), ("bad.data", ".jsonl")),
    "an archive": ("bad.json.gz", b"\x1f\x8b", ("bad.json.gz", "Decompress it first")),
}


def refuse_data(project: Project, name: str, *said: str) -> None:
    """By check and by train, before a model is loaded; no run is left."""
    sets = ("--set", f"data.train={name}", "--set", "model_name_or_path=./no-such-model")
    for verb, *out in (("check",), ("train", "--out", "run")):
        assert_refused(project.call(verb, "recipe.yaml", *sets, *out), "DataError: ", *said)
    assert not (project.folder / "run").exists()
    assert not (project.folder / "runs").exists()


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, project: Project) -> None:
    name, content, said = REFUSED[case]
    (project.folder / name).write_bytes(content)
    refuse_data(project, name, *said)
    init = project.call("init", name)
    assert init.code in (0, 1)
    assert "Traceback" not in init.stderr


def test_36_a_broken_link(project: Project) -> None:
    (project.folder / "bad.json").symlink_to("nothing.json")
    refuse_data(project, "bad.json", "bad.json: no such file", "symbolic link")


def test_37_a_link_is_followed(project: Project) -> None:
    (project.folder / "link.json").symlink_to("data.json")
    assert project.call("check", "recipe.yaml", "--set", "data.train=link.json").code == 0


def test_38_a_directory(project: Project) -> None:
    (project.folder / "bad.json").mkdir()
    refuse_data(project, "bad.json", "bad.json: is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_39_an_unreadable_file(project: Project) -> None:
    (project.folder / "bad.json").write_text(TEXT)
    (project.folder / "bad.json").chmod(0)
    refuse_data(project, "bad.json", "bad.json: cannot be read: Permission denied")


def test_39_what_is_no_regular_file(project: Project) -> None:
    os.mkfifo(project.folder / "bad.json")
    refuse_data(project, "bad.json", "bad.json: is not a regular file")


def test_a_missing_file_is_met_with_a_suggestion(project: Project) -> None:
    refuse_data(project, "dta.json", "dta.json: no such file", "Did you mean `data.json`?")


def test_every_problem_is_counted_and_the_first_twenty_are_shown(project: Project) -> None:
    (project.folder / "bad.jsonl").write_text('{"instruction": "x", "response": ""}\n' * 50)
    refuse_data(project, "bad.jsonl", "bad.jsonl:20:", "… and 30 more (50 in all)")


ACCEPTED: dict[str, tuple[str, bytes, str]] = {
    "3 UTF-8 with BOM": ("good.json", codecs.BOM_UTF8 + TEXT.encode(), "byte order mark"),
    "13 an extra field": (
        "good.json",
        json.dumps([{**row, "more": 1} for row in rows(12)]).encode(),
        "columns not used: `more`",
    ),
    "23 CRLF": (
        "good.jsonl",
        "".join(f"{json.dumps(row)}\r\n" for row in rows(12)).encode(),
        "good.jsonl was read as",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_and_noted(case: str, project: Project) -> None:
    name, content, note = ACCEPTED[case]
    (project.folder / name).write_bytes(content)
    ended = project.call("check", "recipe.yaml", "--set", f"data.train={name}")
    assert ended.code == 0, ended.stderr
    assert note in ended.stdout


@pytest.mark.parametrize("encoding", ["utf-16", "gbk", "gb18030"])
def test_the_encoding_that_a_message_names_can_be_set(encoding: str, project: Project) -> None:
    (project.folder / "good.json").write_bytes(TEXT.encode(encoding))
    ended = project.call(
        "check", "recipe.yaml", "--set", "data.train=good.json", "--set", f"data.encoding={encoding}"
    )
    assert ended.code == 0, ended.stderr


def test_28_empty_responses_can_be_dropped_and_are_counted(project: Project) -> None:
    (project.folder / "some.json").write_text(
        json.dumps([*rows(12), {"instruction": "x", "response": ""}]), encoding="utf-8"
    )
    ended = project.call(
        "check", "recipe.yaml", "--set", "data.train=some.json", "--set", "data.on_empty=drop"
    )
    assert ended.code == 0, ended.stderr
    assert "1 empty row dropped" in ended.stdout


def test_26_one_source_in_two_files(project: Project) -> None:
    (project.folder / "eval.json").write_text(json.dumps(rows(3)), encoding="utf-8")
    sets = ("--set", "data.eval=eval.json")
    for verb in ("check", "train"):
        assert_refused(
            project.call(verb, "recipe.yaml", *sets), "eval.json:", "has the same source as row", "3 problems"
        )
    assert not Path(project.folder / "runs").exists()

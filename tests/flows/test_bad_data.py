"""Data that cannot be right: one message with file, line, what was found and the fix, and nothing left."""

from __future__ import annotations

import codecs
import json
import os
import re
from pathlib import Path

import pytest

from tests.flows.conftest import Project, assert_refused, rows

GOOD = [json.dumps(row, ensure_ascii=False) for row in rows(20)]
TEXT = json.dumps(rows(12), ensure_ascii=False)


def among_lines(bad: str | bytes) -> bytes:
    """A line 11 with ten good ones before it and ten behind."""
    before, behind = "".join(f"{line}\n" for line in GOOD[:10]), "".join(f"\n{line}" for line in GOOD[10:])
    return before.encode() + (bad if isinstance(bad, bytes) else bad.encode()) + behind.encode()


def in_list(bad: str) -> bytes:
    """The same as a JSON list: the eleventh row, in line 12."""
    return ("[\n" + ",\n".join([*GOOD[:10], bad, *GOOD[10:]]) + "\n]\n").encode()


def in_table(bad: str) -> bytes:
    """The same as CSV: the eleventh row, in line 12."""
    lines = [f"{row['instruction']},{row['response']}" for row in rows(20)]
    return "\n".join(["instruction,response", *lines[:10], bad, *lines[10:]]).encode()


# The row of bad-inputs.md it stands for → (file, its bytes, what the message says).
REFUSED: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "1 an empty file": ("bad.json", b"", ("bad.json", "no rows")),
    "1 empty lines": ("bad.jsonl", b"", ("bad.jsonl", "no rows")),
    "1 an empty table": ("bad.csv", b"", ("bad.csv",)),
    "1 an empty array": ("bad.json", b"[]", ("bad.json", "no rows")),
    "2 white space": ("bad.json", b" \n\t\n", ("bad.json", "no rows")),
    "4 UTF-16": ("bad.json", TEXT.encode("utf-16"), ("bad.json", "data.encoding: utf-16")),
    "5 GBK": ("bad.json", TEXT.encode("gbk"), ("bad.json", "data.encoding: gb")),
    "6 GB18030": ("bad.json", f"{TEXT}𠀀".encode("gb18030"), ("bad.json", "data.encoding: gb18030")),
    "7 a bad line": ("bad.jsonl", among_lines('{"instruction": "x", }'), ("bad.jsonl:11:",)),
    "7 a bad row of a list": ("bad.json", in_list('{"instruction": "x", }'), ("bad.json:12:",)),
    "8 a truncated array": (
        "bad.json",
        in_list(GOOD[0]).decode()[:-30].encode(),
        ("bad.json:22:", "truncated"),
    ),
    "9 two objects on a line": ("bad.jsonl", among_lines(f"{GOOD[0]} {GOOD[1]}"), ("bad.jsonl:11:",)),
    "10 NaN": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": NaN}'),
        ("bad.jsonl:11: row 11", "`response` is nan"),
    ),
    "11 null": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": null}'),
        ("bad.jsonl:11: row 11", "`response`", "null"),
    ),
    "12 a missing field": (
        "bad.jsonl",
        among_lines('{"instruction": "x"}'),
        ("bad.jsonl:11: row 11", "`response`", "missing"),
    ),
    "12 a missing field of a list": (
        "bad.json",
        in_list('{"response": "x"}'),
        ("bad.json:12: row 11", "`instruction`", "missing"),
    ),
    "12 a field that no row has": ("bad.jsonl", b'{"instruction": "x"}\n' * 3, ("bad.jsonl", "instruction")),
    "14 a nested value": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": {"text": "a"}}'),
        ("bad.jsonl:11: row 11", "`response` must be text, but is an object"),
    ),
    "15 a number": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": 7}'),
        ("bad.jsonl:11: row 11", "`response` must be text, but is a number", "data.stringify: true"),
    ),
    "16 a number of 400 digits": (
        "bad.jsonl",
        among_lines(f'{{"instruction": "x", "response": {"7" * 400}}}'),
        ("bad.jsonl:11: row 11", "`response` must be text, but is a number", "data.stringify: true"),
    ),
    "17 a key twice": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": "a", "response": "b"}'),
        ("bad.jsonl:11", "response"),
    ),
    "18 an unpaired surrogate": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": "a\\ud800"}'),
        (
            "bad.jsonl:11: row 11",
            "`response` contains an unpaired surrogate (U+D800)",
            "character at position 2",
        ),
    ),
    "19 a raw control character": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": "a\x07"}'),
        ("bad.jsonl:11:",),
    ),
    "20 an escaped NUL": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": "a\\u0000"}'),
        ("bad.jsonl:11: row 11", "`response` contains NUL (U+0000)"),
    ),
    "21 deep nesting": ("bad.json", b"[" * 3000, ("bad.json:1",)),
    "21 deep nesting in a row": (
        "bad.jsonl",
        among_lines(f'{{"instruction": "x", "response": {"[" * 3000}'),
        ("bad.jsonl:11",),
    ),
    "24 an invalid byte": (
        "bad.jsonl",
        among_lines(b'{"instruction": "\xff", "response": "a"}'),
        ("bad.jsonl:11", "byte"),
    ),
    "28 an empty response": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": ""}'),
        ("bad.jsonl:11: row 11", "`response` is empty", "data.on_empty: drop"),
    ),
    "28 an empty cell": (
        "bad.csv",
        in_table("x,"),
        ("bad.csv:12: row 11", "`response` is empty", "data.on_empty: drop"),
    ),
    "29 a blank response": (
        "bad.jsonl",
        among_lines('{"instruction": "x", "response": " \\u3000"}'),
        ("bad.jsonl:11: row 11", "`response` is blank", "data.on_empty: drop"),
    ),
    "35 one row": ("bad.json", f"[{GOOD[0]}]".encode(), ("bad.json", "1 row", "`data.eval: 0`")),
    "a suffix that says nothing": ("bad.data", TEXT.encode(), ("bad.data", ".jsonl")),
    "an archive": ("bad.json.zst", b"(\xb5/\xfd", ("bad.json.zst", "Decompress it first")),
    "half a compressed file": ("bad.json.gz", b"\x1f\x8b", ("bad.json.gz", "damaged or truncated")),
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
    refuse_data(project, "bad.json", "data.train: contains no data file", "bad.json")


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


def test_37_a_file_that_is_no_more_than_a_link_is_named_as_it_was_written(project: Project) -> None:
    (project.folder / "real.jsonl").write_bytes(among_lines('{"instruction": "x", "response": ""}'))
    (project.folder / "bad.jsonl").symlink_to("real.jsonl")
    refuse_data(project, "bad.jsonl", "bad.jsonl:11: row 11")


def test_every_problem_is_counted_and_the_first_twenty_are_shown(project: Project) -> None:
    (project.folder / "bad.jsonl").write_text('{"instruction": "x", "response": ""}\n' * 50)
    refuse_data(project, "bad.jsonl", "bad.jsonl:20:", "… and 30 more (50 in all)")


ACCEPTED: dict[str, tuple[str, bytes, str]] = {
    "3 UTF-8 with BOM": ("good.json", codecs.BOM_UTF8 + TEXT.encode(), "byte order mark"),
    "13 an extra field": (
        "good.json",
        json.dumps([{**row, "more": 1} for row in rows(12)]).encode(),
        "unused columns: `more`",
    ),
    "22 U+2028 in a string": (
        "good.jsonl",
        among_lines('{"instruction": "x\u2028y", "response": "一\u2028二"}'),
        "rows: 13 train, 4 eval, 4 test",
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
    ended = project.call("check", "recipe.yaml", "--set", f"data.train={name}", "--all")
    assert ended.code == 0, ended.stderr
    assert note in " ".join(ended.stdout.split())


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
    assert "1 empty row dropped" in " ".join(ended.stdout.split())


def test_26_one_source_in_two_files(project: Project) -> None:
    (project.folder / "eval.json").write_text(json.dumps(rows(3)), encoding="utf-8")
    sets = ("--set", "data.eval=eval.json")
    for verb in ("check", "train"):
        assert_refused(
            project.call(verb, "recipe.yaml", *sets), "eval.json:", "has the same source as row", "3 problems"
        )
    assert not Path(project.folder / "runs").exists()


# Rows 25 to 34 and 78: what can be read and trained on, but should be known first. One bad row among
# twenty good ones → (the row, the check, its level, what the message says).
KNOWN = {
    "25 a duplicate": (rows(20)[3], "duplicates", "warning", "rows 11 = 4"),
    "27 a near-duplicate": (
        {key: f"{text}！" for key, text in rows(20)[3].items()},
        "near-duplicates",
        "warning",
        "nearly repeat",
    ),
    "30 a source past the limit": (
        {"instruction": "怎么办" * 40, "response": "好的。"},
        "truncation",
        "warning",
        "are cut at 48 tokens; EOS is kept",
    ),
    "31 a response past the limit": (
        {"instruction": "怎么办？", "response": "好的" * 40},
        "truncation",
        "warning",
        "are cut at 32 tokens; EOS is kept",
    ),
    "33 text that is spelt in bytes": (
        {"instruction": "😀" * 40, "response": "😀" * 40},
        "unknown-tokens",
        "warning",
        "are single bytes",
    ),
    "34 another script": (
        {"instruction": "한국어로 쓴 문장입니다", "response": "한국어로 쓴 문장입니다"},
        "scripts",
        "note",
        "mainly in Hangul script",
    ),
    "78 personal data": (
        {"instruction": "打13912345678找我", "response": "好的。"},
        "personal-data",
        "warning",
        "phone numbers in 1 of 21 rows",
    ),
    "78 an account": (
        {"instruction": "加微信：lilei_2020", "response": "好的。"},
        "personal-data",
        "warning",
        "WeChat or QQ numbers in 1 of 21 rows",
    ),
}


@pytest.mark.parametrize("case", KNOWN)
def test_known_before_training_by_line_and_without_the_text(case: str, project: Project) -> None:
    row, check, level, said = KNOWN[case]
    (project.folder / "odd.jsonl").write_bytes(among_lines(json.dumps(row, ensure_ascii=False)))
    options = ("--set", "data.train=odd.jsonl", "--set", "data.eval=0", "--set", "data.test=0")
    ended = project.call("check", "recipe.yaml", *options, "--data-only", "--json")
    assert ended.code == 0, ended.stderr
    # The recipe's own warning is shown with --json too.
    assert [line for line in ended.stderr.splitlines() if "`data.eval` is 0" not in line] == []
    found = [
        finding
        for finding in json.loads(ended.stdout)["findings"]
        if finding["check"] == check and said in finding["message"]
    ]
    assert found, ended.stdout
    assert {finding["level"] for finding in found} == {level}
    assert all(re.search(r"odd\.jsonl:(\d+, )*11\b", f"{f['where']} {f['message']}") for f in found)
    assert not any(text in ended.stdout for text in row.values())
    assert "Traceback" not in ended.stdout
    assert sorted(path.name for path in project.folder.iterdir()) == ["data.json", "odd.jsonl", "recipe.yaml"]


def test_31_every_label_row_ends_in_eos_however_short_the_limit(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--set", "data.max_target_length=4", "--json")
    assert ended.code == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert [f["level"] for f in document["findings"] if f["check"] == "labels"] == ["ok"]
    assert all(view["labels"][-1] == "</s>" and len(view["labels"]) == 4 for view in document["batch"])


def test_32_right_to_left_text_comes_back_from_its_tokens(project: Project) -> None:
    (project.folder / "odd.jsonl").write_bytes(
        among_lines('{"instruction": "كيف أتعامل مع القلق؟", "response": "خذ نفسا عميقا."}')
    )
    ended = project.call("check", "recipe.yaml", "--set", "data.train=odd.jsonl", "--data-only", "--json")
    found = [f for f in json.loads(ended.stdout)["findings"] if f["check"] == "round-trip"]
    assert [f["level"] for f in found] == ["ok"]

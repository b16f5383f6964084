"""Files as such: what is not there, not a file, not readable, not text, or empty."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import good_rows, refusal

from loraloom.data.rows import FORMATS, read_rows
from loraloom.recipe import DataSettings

SETTINGS = DataSettings(train="data.json")


def rows_of(path: Path) -> list:
    return list(read_rows(path, SETTINGS, shown_as=path.name))


@pytest.mark.parametrize("content", ["", " \n\t\r\n  \n"], ids=["empty", "white space"])
@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.csv", "data.tsv"])
def test_a_file_without_rows_is_named(read, name, content):
    message = refusal(read, name, content)
    assert name in message
    assert "no rows" in message


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "[]"), ("a.json", '{\n"data": []}'), ("a.csv", "instruction,response\n")]
)
def test_a_file_of_no_rows_is_empty_too(read, name, content):
    assert f"{name}: contains no rows" in refusal(read, name, content)


def test_a_missing_file_suggests_its_neighbours(tmp_path):
    (tmp_path / "counselling.json").write_text("[]")
    (tmp_path / "other.jsonl").write_text("")
    message = refusal(rows_of, tmp_path / "counseling.json")
    assert "counseling.json: no such file" in message
    assert "Did you mean `counselling.json`?" in message
    assert "`other.jsonl`" in refusal(rows_of, tmp_path / "other.json")
    message = refusal(rows_of, tmp_path / "nowhere" / "data.json")
    assert f"The folder {tmp_path / 'nowhere'} does not exist" in message
    assert f"searched for in {tmp_path}" in refusal(rows_of, tmp_path / "quite_another.csv")


def test_a_directory_is_refused_and_its_files_named(tmp_path):
    (tmp_path / "data.json").mkdir()
    (tmp_path / "data.json" / "train.jsonl").write_text("{}")
    message = refusal(rows_of, tmp_path / "data.json")
    assert "data.json: is a directory" in message
    assert "`train.jsonl`" in message


def test_a_symbolic_link_is_followed(tmp_path):
    (tmp_path / "real.json").write_text(json.dumps(good_rows()))
    (tmp_path / "link.json").symlink_to("real.json")
    assert [row.values for row in rows_of(tmp_path / "link.json")] == good_rows()
    (tmp_path / "dangling.json").symlink_to("gone.json")
    assert "a symbolic link to a file that does not exist" in refusal(rows_of, tmp_path / "dangling.json")


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "data.json"
    path.write_text("[]")

    def refuse(self, *args, **kwargs):  # root may read everything, so permissions alone do not show it
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    message = refusal(rows_of, path)
    assert "data.json: cannot be read: Permission denied" in message
    assert "permissions" in message


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    assert "not a regular file" in refusal(rows_of, tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("name", "fix"),
    [("a.txt", ""), ("a", ""), ("a.json.zst", "Decompress"), ("a.tar.gz", "Unpack"), ("a.xlsx", "CSV")],
)
def test_another_suffix_is_refused_with_those_known(read, name, fix):
    message = refusal(read, name, "x")
    assert all(suffix in message for suffix in FORMATS)
    assert fix in message


def test_a_file_larger_than_memory_streams(tmp_path):
    """20 MB of rows are read with far less than that much memory, in each text format."""
    text = "x" * 1_000
    with (tmp_path / "big.json").open("w") as file:
        file.write("[" + ",".join([json.dumps({"a": text})] * 20_000) + "]")
    with (tmp_path / "big.csv").open("w") as file:
        file.write("a,b\n" + f"{text},\n" * 20_000)
    script = (
        "import sys, tracemalloc\nfrom pathlib import Path\n"
        "from loraloom.data.rows import read_rows\nfrom loraloom.recipe import DataSettings\n"
        "tracemalloc.start()\n"
        "for name in sys.argv[1:]:\n"
        "    rows = read_rows(Path(name), DataSettings(train=name), shown_as=name)\n"
        "    assert sum(1 for _ in rows) == 20_000\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
        "assert not {'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "big.json"), str(tmp_path / "big.csv")]
    peak_bytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak_bytes < 4_000_000


def test_an_error_never_shows_a_row(read, around):
    secret = "机密 secret"
    bad = [
        f'{{"instruction": "{secret}", "response": }}',
        f'["{secret}"]',
        f'"{secret}" "{secret}"',
        f"{secret}",
    ]
    message = refusal(read, "data.jsonl", around(*bad))
    assert "4 problems in all" in message
    assert "secret" not in message
    assert "机密" not in message


def test_every_problem_is_counted_and_twenty_are_shown(read, around):
    message = refusal(read, "data.jsonl", around(*["{"] * 1_500))
    assert message.count("data.jsonl:") == 20
    assert "1480 more (1500 in all)" in message

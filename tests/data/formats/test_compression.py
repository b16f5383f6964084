"""Compressed files: read as what is inside, streaming; what is damaged or misnamed is said."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import subprocess
import sys

import pytest
from data_files import good_rows, refusal

from loraloom.data.formats.compression import data_stem, data_suffix
from loraloom.data.preview import preview
from loraloom.data.prompts.prompts import read_prompts
from loraloom.recipe import DataSettings

COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
TEXTS = {
    ".json": json.dumps(good_rows()),
    ".jsonl": "".join(f"{json.dumps(row)}\n" for row in good_rows()),
    ".csv": "instruction,response\n" + "".join(f"问题 {i},回答 {i}\n" for i in range(1, 21)),
    ".tsv": "instruction\tresponse\n" + "".join(f"问题 {i}\t回答 {i}\n" for i in range(1, 21)),
}


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("suffix", TEXTS)
def test_a_compressed_file_is_read_as_what_is_inside(read, suffix, compression):
    plain = read(f"data{suffix}", TEXTS[suffix])
    rows = read(f"data{suffix}{compression}", COMPRESS[compression](TEXTS[suffix].encode()))
    assert [row.values for row in rows] == good_rows()
    assert [(row.number, row.line) for row in rows] == [(row.number, row.line) for row in plain]
    assert rows[4].where.startswith(f"data{suffix}{compression}")


def test_several_members_are_one_file(read):
    """As `cat a.gz b.gz` and parallel compressors make it."""
    half = TEXTS[".jsonl"].index("\n", len(TEXTS[".jsonl"]) // 2) + 1
    content = b"".join(
        gzip.compress(part.encode()) for part in (TEXTS[".jsonl"][:half], TEXTS[".jsonl"][half:])
    )
    assert [row.values for row in read("data.JSONL.GZ", content)] == good_rows()


@pytest.mark.parametrize("compression", COMPRESS)
def test_what_is_cut_off_or_damaged_is_refused_with_its_name(read, compression):
    whole = COMPRESS[compression](json.dumps(good_rows(2_000)).encode())
    name = f"data.json{compression}"
    assert f"{name}: is damaged or truncated" in refusal(read, name, whole[: len(whole) // 2])
    for place in (len(whole) // 2, len(whole) - 6):  # in what is compressed, and in the sum at the end
        damaged = whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :]
        assert "问题" not in refusal(read, name, damaged)


@pytest.mark.parametrize("compression", COMPRESS)
def test_a_name_that_does_not_say_what_the_bytes_are_is_refused(read, compression):
    content = TEXTS[".jsonl"].encode()
    message = refusal(read, f"data.jsonl{compression}", content)
    assert f"is not compressed with {compression[1:]}" in message
    assert f"rename it without `{compression}`" in message
    message = refusal(read, "data.jsonl", COMPRESS[compression](content))
    assert f"data.jsonl: is compressed with {compression[1:]}" in message
    assert f"`.jsonl{compression}`" in message


def test_bytes_that_are_not_utf8_are_placed_in_the_text(read, around):
    content = around('{"instruction": "äöüß"}'.encode("cp1252"))
    told = refusal(read, "data.jsonl", content)
    assert refusal(read, "data.jsonl.gz", gzip.compress(content)) == told.replace(".jsonl", ".jsonl.gz")
    wide = TEXTS[".jsonl"].encode("utf-16")
    assert "data.encoding: utf-16" in refusal(read, "data.jsonl.gz", gzip.compress(wide))
    assert len(read("data.jsonl.gz", gzip.compress(wide), encoding="utf-16")) == 20


@pytest.mark.parametrize("name", ["data.parquet.gz", "data.arrow.xz"])
def test_a_format_that_compresses_itself_is_not_unpacked(read, name):
    assert "a compressed " in refusal(read, name, b"x")


def test_a_header_of_a_compressed_table_is_not_shown(tmp_path):
    """Without a header, it would be the first row."""
    (tmp_path / "data.csv.gz").write_bytes(gzip.compress("秘密一,秘密二\na,b\n".encode()))
    settings = DataSettings(train="x", columns={"instruction": "a", "response": "b"})
    message = refusal(read_prompts, tmp_path / "data.csv.gz", settings, shown_as="data.csv.gz")
    assert "秘密" not in message


def test_prompts_and_a_first_look_take_compressed_files(tmp_path):
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress("你好\n\n再见\n".encode()))
    settings = DataSettings(train="x")
    prompts = read_prompts(tmp_path / "p.txt.gz", settings, shown_as="p.txt.gz")
    assert [prompt.source for prompt in prompts] == ["你好", "再见"]
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(TEXTS[".csv"].encode()))
    seen = preview(tmp_path / "d.csv.gz", settings)
    assert (seen.num_rows, seen.exact, seen.layout) == (20, True, "instruction/response")


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.json", ".json", "a"),
        ("a/b.JSONL.GZ", ".jsonl", "b"),
        ("a.tar.gz", ".tar", "a"),
        ("a.gz", "", "a"),
        ("a", "", "a"),
    ],
)
def test_names(name, suffix, stem):
    assert (data_suffix(name), data_stem(name)) == (suffix, stem)


def test_a_compressed_file_larger_than_memory_streams(tmp_path):
    row = json.dumps({"a": "x" * 1_000})
    with gzip.open(tmp_path / "big.jsonl.gz", "wt") as file:
        for _ in range(20_000):
            file.write(row + "\n")
    script = (
        "import sys, tracemalloc\nfrom pathlib import Path\n"
        "from loraloom.data.rows import read_rows\nfrom loraloom.recipe import DataSettings\n"
        "tracemalloc.start()\n"
        "rows = read_rows(Path(sys.argv[1]), DataSettings(train='x'), shown_as='big.jsonl.gz')\n"
        "assert sum(1 for _ in rows) == 20_000\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "big.jsonl.gz")]
    peak_bytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak_bytes < 4_000_000

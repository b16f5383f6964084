"""Bytes to text: byte order marks, encodings, and where a byte is wrong."""

from __future__ import annotations

import json

import pytest
from data_files import good_rows, refusal

from loraloom.data.formats.charset import likely_encoding
from loraloom.data.formats.row import Findings
from loraloom.data.formats.text import CHUNK_BYTES, text_chunks, text_lines
from loraloom.data.rows import scan_rows
from loraloom.recipe import DataSettings

CHINESE = [
    {
        "instruction": f"医生，我最近总是感到很焦虑，第{i}次了。",
        "response": "你好，我很理解你的感受，我们一起来看看。",
    }
    for i in range(20)
]


def lines_of(rows):
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n"


def test_a_byte_order_mark_is_accepted_and_noted(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines_of(CHINESE).encode())
    findings = Findings()
    rows = list(scan_rows(path, DataSettings(train="x"), shown_as="data.jsonl", findings=findings))
    assert [row.values for row in rows] == CHINESE
    assert any("byte order mark" in note for note in findings.notes)
    assert not findings.problems


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.csv"])
@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32-le", "utf-32-le"),
        ("utf-32-be", "utf-32-be"),
        ("gbk", "gbk"),
        ("big5", "big5"),
    ],
)
def test_another_encoding_is_named_and_not_guessed(read, name, encoding, named):
    rows = CHINESE
    if encoding == "big5":
        rows = [{"instruction": "醫生，我們現在要來說這個", "response": "你們可以來這裡，說說你的事。"}] * 20
    text = {
        "data.json": json.dumps(rows, ensure_ascii=False),
        "data.jsonl": lines_of(rows),
        "data.csv": "instruction,response\n" + "".join(f"{r['instruction']},{r['response']}\n" for r in rows),
    }[name].encode(encoding)
    message = refusal(read, name, text)
    assert name in message
    assert f"data.encoding: {named}`" in message
    assert [row.values for row in read(name, text, encoding=named)] == rows


def test_gb18030_is_named_where_gbk_cannot_be(read):
    rows = [{"instruction": row["instruction"] + "😊𠮷", "response": row["response"]} for row in CHINESE]
    text = lines_of(rows).encode("gb18030")
    assert "data.encoding: gb18030`" in refusal(read, "data.jsonl", text)
    assert "data.encoding: gb18030`" in refusal(read, "data.jsonl", text, encoding="gbk")
    assert [row.values for row in read("data.jsonl", text, encoding="gb18030")] == rows


def test_one_bad_byte_has_its_offset_and_line(read, around):
    content = around(b'{"instruction": "q", "response": "\xff"}')
    message = refusal(read, "data.jsonl", content)
    assert f"byte {content.index(0xFF)} " in message
    assert "data.jsonl:11" in message
    assert "0xff" in message
    assert "data.encoding" in message


@pytest.mark.parametrize("at", [5, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_the_offset_is_right_wherever_the_pieces_break(read, at):
    content = bytearray("é".encode() * (2 * CHUNK_BYTES))
    content[at] = 0xFE
    # A continuation byte spoiled makes its lead byte the first that is wrong, and decoders say so.
    offset = at if at % 2 == 0 else at - 1
    assert f"byte {offset} " in refusal(read, "data.csv", bytes(content))


def test_a_character_cut_by_the_end_is_found(read):
    content = lines_of(CHINESE).encode() + "好".encode()[:2]
    message = refusal(read, "data.jsonl", content)
    assert f"byte {len(content) - 2} " in message
    assert "looks like" not in message


@pytest.mark.parametrize("encoding", ["utf8x", "rot13", "base64", "", "\0"])
def test_an_unknown_encoding_is_refused_by_its_key(read, encoding):
    message = refusal(read, "data.jsonl", lines_of(CHINESE), encoding=encoding)
    assert "data.encoding" in message
    assert "utf-8" in message


def test_utf8_that_the_recipe_calls_gbk_is_refused(read):
    content = b"\xef\xbb\xbf" + lines_of(CHINESE).encode()
    assert "data.encoding: utf-8" in refusal(read, "data.jsonl", content, encoding="gbk")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("これはとてもよいものだとおもいます。", "cp932"),
        ("これはとてもよいものだとおもいます。", "euc_jp"),
        ("나는 이것이 좋은 것이라고 생각한다. 그리고 다시 하자.", "cp949"),
        ("Это очень хорошая вещь, и мы о ней говорим.", "cp1251"),
        ("Schöne Grüße aus Köln, wo die Straßen größer wären", "cp1252"),
        ("我们可以说，你们也是这样的人。", "gbk"),
    ],
)
def test_texts_of_other_languages_are_told_apart(text, encoding):
    assert likely_encoding(text.encode(encoding) * 3) == encoding


def test_damaged_utf8_is_not_taken_for_another_encoding():
    assert likely_encoding("我们可以说".encode() * 5 + b"\xff\xfe" + "你们也是".encode()) is None


@pytest.mark.parametrize(
    "text", ["", "a", "a\n", "\n", "a\nb\r\nc", "a\u2028b\x85c\x0bd\n\n", "长" * 100_000 + "\nx"]
)
def test_lines_end_at_a_line_feed_only(tmp_path, text):
    path = tmp_path / "t"
    path.write_bytes(text.encode())
    lines = list(text_lines(text_chunks(path, "utf-8", "t", Findings())))
    assert "".join(lines) == text
    assert all(line.count("\n") <= 1 and line.find("\n") in (-1, len(line) - 1) for line in lines)
    assert len(lines) == text.count("\n") + (not text.endswith("\n") and text != "")


def test_good_rows_stay_good_in_every_unicode_encoding(read):
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"):
        rows = read("data.jsonl", lines_of(good_rows()).encode(encoding), encoding=encoding)
        assert [row.values for row in rows] == good_rows()

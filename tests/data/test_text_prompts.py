"""Prompts of text files: one reader of lines, the rules of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_files import refusal

from loraloom.data.formats.row import Findings
from loraloom.data.prompts.prompts import Prompt, prompts_of_texts, read_prompts
from loraloom.recipe import DataSettings

Ask = Callable[..., list[Prompt]]
SETTINGS = DataSettings(train="x")


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def write_and_read(content: bytes | str, name: str = "p.txt", **options: str) -> list[Prompt]:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        settings = DataSettings(train="x", **options)
        return read_prompts(tmp_path / name, settings, shown_as=name, findings=options_findings)

    options_findings = Findings()
    write_and_read.findings = options_findings  # type: ignore[attr-defined]
    return write_and_read


def pairs(prompts: list[Prompt]) -> list[tuple[int, str]]:
    return [(prompt.row, prompt.source) for prompt in prompts]


def test_a_byte_order_mark_is_no_part_of_the_first_prompt_and_is_noted(ask):
    assert pairs(ask(b"\xef\xbb\xbfone\r\ntwo\r\n")) == [(1, "one"), (2, "two")]
    assert any("byte order mark" in note for note in ask.findings.notes)


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0c", "\x0b"])
def test_only_a_line_feed_ends_a_prompt(ask, inside):
    assert pairs(ask(f"one{inside}more\ntwo")) == [(1, f"one{inside}more"), (2, "two")]


def test_prompts_have_the_numbers_of_their_lines(ask):
    assert pairs(ask("\n\none\n  \n\u3000\ntwo\n\n")) == [(3, "one"), (6, "two")]


@pytest.mark.parametrize("name", ["P.TXT", "p.Txt", "p.txt"])
def test_the_suffix_is_read_in_any_case(ask, name):
    assert pairs(ask("one\n", name)) == [(1, "one")]


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-16-le"])
def test_another_encoding_is_named_and_read_when_said(ask, encoding):
    text = "我们可以说，你们也是这样的人。\n你好，我很理解你的感受。\n"
    assert f"data.encoding: {encoding}" in refusal(ask, text.encode(encoding))
    assert [row for row, _ in pairs(ask(text.encode(encoding), encoding=encoding))] == [1, 2]


def test_the_prefix_stands_in_front(ask):
    assert pairs(ask("\none\n", source_prefix="say: ")) == [(2, "say: one")]
    assert "template over columns" in refusal(ask, "one\n", source_prefix="say: {q}")


def test_a_carriage_return_inside_is_refused_with_its_line(ask):
    message = refusal(ask, "one\n\nmac\rlines\n\rx\n")
    assert "p.txt:3: the prompt contains a carriage return" in message
    assert "2 problems in all" in message
    assert "mac" not in message


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf\n"])
def test_a_file_of_no_prompt_is_refused(ask, content):
    assert "p.txt: contains no prompt" in refusal(ask, content)


def test_the_suffix_of_text_is_named_where_a_file_of_another_is_refused(ask):
    assert ".txt (one prompt per line)" in refusal(ask, "hello\n", "p.md")


def test_texts_given_by_hand_follow_the_same_rules():
    assert pairs(prompts_of_texts(["a\nb"], SETTINGS)) == [(1, "a\nb")]
    assert prompts_of_texts([], DataSettings(train="x", source_prefix="{a}: {b}")) == []
    assert "--prompt: prompt 2 is empty" in refusal(prompts_of_texts, ["fine", " "], SETTINGS)


def test_how_a_table_of_prompts_was_read_is_noted(ask):
    assert pairs(ask("instruction;id\none;1\n", "p.csv")) == [(1, "one")]
    assert any("separated by semicolons" in note for note in ask.findings.notes)

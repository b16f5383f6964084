"""Findings as lines of text."""

from __future__ import annotations

from loraloom.checks.finding import Finding
from loraloom.console.finding_text import paragraph


def lines(finding: Finding, width: int = 80) -> list[str]:
    return [line.plain for line in paragraph(finding, width)]


def test_a_place_that_the_message_begins_with_is_said_once() -> None:
    note = Finding("note", "data", "data.tsv", "data.tsv was read as instruction/response")
    assert lines(note) == ["note data: data.tsv was read as instruction/response"]
    limit = Finding("ok", "truncation", "data.max_source_length", "no source is cut")
    assert lines(limit) == ["ok truncation: data.max_source_length: no source is cut"]

"""Characters that nobody sees."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from loraloom.text.visible import printable, quoted, visible


@pytest.mark.parametrize(
    "char",
    list("\x00\x1b\r\x7f\x85\xad\u061c\u200b\u202e\u2028\u2066\u3164\ufeff\ud800\U000e0041"),
)
def test_what_is_not_seen_is_spelled_out(char: str) -> None:
    assert visible(f"a{char}b") == f"a{ascii(char)[1:-1]}b"
    assert printable(f"a{char}b") == f"a{ascii(char)[1:-1]}b"


@pytest.mark.parametrize(
    "text",
    ["two\nlines\tand a tab", "女\u3000士", "👩\u200d👧", "❤\ufe0f", "می\u200cخواهم", "e\u0301", "a\xa0b"],
)
def test_texts_of_every_script_stay(text: str) -> None:
    assert visible(text) == text


def test_no_control_reaches_a_terminal() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    controls = [char for char in every if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]
    assert visible("".join(controls)).isascii()
    assert not set(visible("".join(controls))) - {"\n", "\t"} & set(controls)


def test_a_name_is_on_one_line_and_short() -> None:
    assert printable("a\n\u3000b") == r"a\n\u3000b"
    assert quoted("x" * 500, limit=10) == f"`{'x' * 9}…`"
    assert quoted("\n" * 500, limit=10) == r"`\n\n\n\n\…`"


def test_escapes_can_be_marked() -> None:
    assert visible("a\u202eb", mark=lambda escaped: f"<{escaped}>") == r"a<\u202e>b"

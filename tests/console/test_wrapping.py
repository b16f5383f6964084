"""Lines break between English words and Chinese characters, and fit the terminal."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text

from loraloom.console.results import print_range_test
from loraloom.console.wrapping import BreakableText, wrapped
from loraloom.run.documents.range_test import RangeTest

CHINESE = "训练集的 token 中有 15.2 % 是单个字节（93.5 %），因为词表缺少“某些”字符；用 `--all` 显示。"


def lines(text: str, width: int) -> list[str]:
    return [line.plain for line in wrapped(Text(text), width)]


def test_chinese_breaks_between_characters_and_fills_its_lines() -> None:
    assert lines(CHINESE, 30) == [
        "训练集的 token 中有 15.2 % 是",
        "单个字节（93.5 %），因为词表缺",
        "少“某些”字符；用 `--all` 显",
        "示。",
    ]


@pytest.mark.parametrize("width", range(6, 60))
def test_no_line_begins_or_ends_with_the_wrong_punctuation(width: int) -> None:
    for line in lines("甲乙（丙丁）戊己，庚“辛”壬；癸、子丑。" * 4, width):
        assert line[0] not in "），；、。”"
        assert line[-1] not in "（“"


def test_english_breaks_between_words_and_figures_keep_their_sign() -> None:
    assert lines("no text is cut: 3 % of it", 17) == ["no text is cut:", "3 % of it"]
    assert lines("cut to 3 % of it", 8) == ["cut to", "3 % of", "it"]
    assert lines("a verylongword", 6) == ["a", "verylo", "ngword"]


def test_a_sentence_of_a_result_breaks_as_other_text_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    found = RangeTest(
        format=1,
        experiment="main",
        num_steps=8,
        num_eval_rows=8,
        base_eval_loss=2.0,
        results=[],
        suggestion=None,
        reason=CHINESE,
    )
    print_range_test(found)
    assert capsys.readouterr().out.splitlines()[-4:] == lines(CHINESE, 30)


def test_styles_are_kept() -> None:
    first, second = wrapped(Text.assemble(("甲乙", "red"), "丙丁"), 4)
    assert [span.style for span in first.spans] == ["red"]
    assert second.spans == []


@given(text=st.text("ab 中，（1.5%`…", max_size=60), width=st.integers(2, 30))
def test_nothing_is_lost_and_every_line_fits(text: str, width: int) -> None:
    shown = lines(text, width)
    assert "".join("".join(shown).split()) == "".join(text.split())
    assert all(cell_len(line) <= width for line in shown)


def test_a_cell_of_a_table_loses_no_chinese() -> None:
    console = Console(file=io.StringIO(), width=20)
    table = Table(box=None, show_header=False)
    table.add_row("--allow", Columns([BreakableText.of(Text("出错也继续，并记录在运行中\n可以重复"))]))
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "".join(shown.split()) == "--allow出错也继续，并记录在运行中可以重复"

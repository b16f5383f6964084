"""Notes and answers: a terminal shows them in lines that fit it, a pipe as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from rich.cells import cell_len

from loraloom.console.display import Display
from loraloom.console.results import print_answers
from loraloom.run.documents.checks import Finding, Level
from loraloom.run.documents.comparison import FORMAT, ComparedRow, Comparison, ModelRecord
from loraloom.run.events import AnswerProgress, CheckResults, Note, TrainStep
from loraloom.text.catalogue import use_catalogue
from loraloom.text.language import catalogue_of
from tests.flows.terminals import Terminal

WIDTH = 60
NOTE = "the rows of data.jsonl were read as instruction and response; 3 of them have no text and are dropped"
CHINESE = "训练集的 token 中有 15.2 % 是单个字节（93.5 %），因为词表缺少“某些”字符，所以这些字符不会被学到。"
PATH = "/a/folder/whose/name/is/longer/than/a/line/of/this/narrow/terminal"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal of 60 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERM", "xterm")
    opened = Terminal()
    yield opened
    opened.close()


@contextmanager
def on(terminal: Terminal) -> Iterator[None]:
    """Make the terminal stdout and stderr."""
    with (
        terminal.path.open("w", encoding="utf-8") as stream,
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        yield


def comparison(*answers: str) -> Comparison:
    """One row for each answer of the one model."""
    return Comparison(
        format=FORMAT,
        what="prompts",
        time="2026-01-01T00:00:00+00:00",
        num_rows=len(answers),
        num_truncated_sources=0,
        took_part_in_a_choice=False,
        sentences=[],
        generation={},
        models={"base": ModelRecord(figures={})},
        differences=[],
        signatures={},
        rows=[ComparedRow(source=NOTE, reference=CHINESE, answers={"base": answer}) for answer in answers],
    )


def test_a_note_breaks_between_words_on_a_terminal(terminal: Terminal) -> None:
    with on(terminal):
        Display()(Note(message=NOTE))
    assert terminal.shown.splitlines() == [
        "note: the rows of data.jsonl were read as instruction and",
        "response; 3 of them have no text and are dropped",
    ]


def test_a_chinese_note_breaks_between_characters_on_a_terminal(terminal: Terminal) -> None:
    with on(terminal), use_catalogue(catalogue_of("zh")):
        Display()(Note(message=CHINESE))
    lines = terminal.shown.splitlines()
    assert "".join(lines).replace(" ", "") == f"说明：{CHINESE}".replace(" ", "")
    assert [cell_len(line) in range(WIDTH - 3, WIDTH + 1) for line in lines[:-1]] == [True]


def test_the_line_of_the_folded_checks_breaks_between_words(terminal: Terminal) -> None:
    levels: tuple[Level, ...] = ("ok", "ok", "note", "note")
    findings = [Finding(level, "movement", "main", "small") for level in levels]
    with on(terminal):
        Display()(CheckResults(findings=findings))
    assert terminal.shown.splitlines() == [
        "4 checks: 2 notes, 2 passed; `loraloom check` shows the",
        "notes",
    ]


def test_a_count_of_answers_is_a_whole_line_that_others_can_follow(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.console.display.SECONDS_BETWEEN_LINES", 0.0)
    with on(terminal):
        display = Display()
        display(AnswerProgress(done=1, total=3))
        display(Note(message="in between"))
        display(AnswerProgress(done=3, total=3))
    assert terminal.written == "answered 1 of 3\r\nnote: in between\r\nanswered 3 of 3\r\n"


def test_a_note_above_the_live_line_breaks_between_words(terminal: Terminal) -> None:
    with on(terminal):
        display = Display()
        display(
            TrainStep(
                step=1,
                experiment="main",
                experiment_step=1,
                total_steps=9,
                epoch=0.1,
                loss=1.0,
                learning_rate=1e-3,
                grad_norm=1.0,
                num_tokens=9,
                tokens_per_second=9.0,
            )
        )
        display(Note(message=NOTE))
        display.close()
    lines = [line.strip() for line in terminal.shown.splitlines()]
    assert "response; 3 of them have no text and are dropped" in lines


def test_a_path_and_the_next_command_can_be_copied_from_a_terminal(terminal: Terminal) -> None:
    with on(terminal):
        display = Display()
        display(Note(message=f"the rows are in {PATH} and stay there"))
        display.next_command(f"loraloom train recipe.yaml --out {PATH}")
    assert terminal.shown.splitlines() == [
        "note: the rows are in",
        PATH,
        "and stay there",
        f"Next: loraloom train recipe.yaml --out {PATH}",
    ]


def test_answers_break_between_words_on_a_terminal(terminal: Terminal) -> None:
    with on(terminal):
        print_answers(comparison(f"{NOTE}\n\nand\ta second paragraph"), shown_rows=1)
    assert terminal.shown.splitlines() == [
        "",
        "the rows of data.jsonl were read as instruction and",
        "response; 3 of them have no text and are dropped",
        "  base: the rows of data.jsonl were read as instruction",
        "    and response; 3 of them have no text and are dropped",
        "",
        "    and     a second paragraph",
        "  reference: 训练集的 token 中有 15.2 % 是单个字节",
        "    （93.5 %），因为词表缺少“某些”字符，所以这些字符不会被学",
        "    到。",
    ]


def test_a_pipe_has_one_line_for_each_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    display = Display()
    for message in (NOTE, CHINESE):
        display(Note(message=message))
    assert capsys.readouterr().err == f"note: {NOTE}\nnote: {CHINESE}\n"


def test_a_pipe_has_answers_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    print_answers(comparison(f"{NOTE}  \n\n  second paragraph"), shown_rows=1)
    assert capsys.readouterr().out == (
        f"\n{NOTE}\n  base: {NOTE}  \n\n  second paragraph\n  reference: {CHINESE}\n"
    )

"""What a command shows on stderr while it works."""

from __future__ import annotations

import pytest

from loraloom.console.display import Display
from loraloom.run.documents.checks import Finding, Level
from loraloom.run.events import CheckResults, Note, WarningNote


def test_warnings_are_shown_even_if_a_command_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(is_quiet=True)
    display(Note(message="the rows were read"))
    display(WarningNote(message="experiment `b` is identical to `a`"))
    assert capsys.readouterr().err == "warning: experiment `b` is identical to `a`\n"


def test_warnings_of_checks_are_shown_beside_json_and_nothing_else_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    findings = [
        Finding("ok", "targets", "main", "36 linears"),
        Finding("warning", "cut-off", "rows.json:3", "responses end in the middle of a sentence"),
        Finding("error", "labels", "labels", "rows do not end in EOS"),
    ]
    Display(is_quiet=True)(CheckResults(findings=findings))
    assert capsys.readouterr().err == ("warning: rows.json:3: responses end in the middle of a sentence\n")


@pytest.mark.parametrize(
    ("level", "last"),
    [("ok", "1 checks: 1 passed"), ("note", "1 checks: 1 note; `loraloom check` shows the notes")],
)
def test_notes_of_checks_that_are_only_counted_can_be_found(
    level: Level, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Display()(CheckResults(findings=[Finding(level, "movement", "main", "a small movement is predicted")]))
    assert capsys.readouterr().err == f"{last}\n"

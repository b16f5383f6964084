"""What a command shows on stderr while it works."""

from __future__ import annotations

import pytest

from loraloom.console.display import Display
from loraloom.run.documents.checks import Finding, Level
from loraloom.run.events import CheckResults, Evaluation, Note, WarningNote
from loraloom.text.catalogue import use_catalogue
from loraloom.text.language import catalogue_of


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


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("en", "main: step 6  epoch 1.5000  eval_loss 2.2500  chrf 31.0000"),
        ("zh", "main：第 6 步  1.5000 轮  eval_loss 2.2500  chrf 31.0000"),
    ],
)
def test_the_words_of_an_evaluation_are_translated_and_its_metrics_are_not(
    language: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event = Evaluation(
        step=9, experiment="main", experiment_step=6, epoch=1.5, figures={"eval_loss": 2.25, "chrf": 31.0}
    )
    with use_catalogue(catalogue_of(language)):
        Display()(event)
    assert capsys.readouterr().err == f"{shown}\n"

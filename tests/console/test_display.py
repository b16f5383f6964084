"""What a command shows on stderr while it works."""

from __future__ import annotations

import pytest

from loraloom.console.display import Display
from loraloom.run.events import Note, WarningNote


def test_warnings_are_shown_even_if_a_command_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(is_quiet=True)
    display(Note(message="the rows were read"))
    display(WarningNote(message="experiment `b` is identical to `a`"))
    assert capsys.readouterr().err == "warning: experiment `b` is identical to `a`\n"

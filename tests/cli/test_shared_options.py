"""Options that commands share are declared once, and their help says what the command accepts."""

from __future__ import annotations

import typer
from typer.main import get_command

from loraloom.cli import app


def help_of(verb: str) -> dict[str, str]:
    """The help of each option and argument of a command, by its first name."""
    command = get_command(app).commands[verb]  # type: ignore[attr-defined]
    assert isinstance(command, typer.core.TyperCommand)
    return {each.opts[0]: str(each.help) for each in command.params if hasattr(each, "help")}


def test_merge_says_which_settings_and_dtypes_it_accepts() -> None:
    of_merge = help_of("merge")
    assert "float16" in of_merge["--dtype"]
    assert "dtype, device, seed" not in of_merge["--set"]
    assert "--dtype sets the dtype of the new folder" in of_merge["--set"]
    assert "dtype, device, seed" in help_of("predict")["--set"]


def test_a_shared_option_has_one_help() -> None:
    for option, verbs in {
        "--resume": ("train", "search"),
        "--adapter": ("merge", "predict", "card"),
        "--experiment": ("merge", "card"),
        "--allow": ("train", "search", "check"),
    }.items():
        assert len({help_of(verb)[option] for verb in verbs}) == 1, option

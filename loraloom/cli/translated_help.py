"""Help and errors of the command line in the user's language, including those that Typer writes.

Typer translates its own texts only through gettext's global domain, and turns our messages into plain text.
Catalogues are keyed by English templates, so a plain text is looked up under the template that it matches,
or else as it is.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import typer
import typer.core

from loraloom.cli.shared_options import OPTIONAL_VALUES
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message, marked
from loraloom.text.template import pieces

# Texts that Typer writes in its help, and about the words that a user typed.
LIBRARY_TEXTS = (
    marked("Show this message and exit."),
    marked("Invalid value for {name}: {problem}"),
    marked("Invalid value: {problem}"),
    marked("Missing argument {name}."),
    marked("Missing option {name}."),
    marked("Missing command."),
    marked("No such command {name}. Did you mean {names}?"),
    marked("No such command {name}."),
    marked("No such option: {name} Did you mean {names}?"),
    marked("No such option: {name} (Possible options: {names})"),
    marked("No such option: {name}"),
    marked("Got unexpected extra argument(s) ({arguments})"),
    marked("Option {name} requires an argument."),
    marked("Option {name} does not take a value."),
    marked("Input should be a valid integer, unable to parse string as an integer"),
    marked("Input should be a valid number, unable to parse string as a number"),
)
_WITHIN = "problem"  # the placeholder of a text within a text


class TranslatedCommand(typer.core.TyperCommand):
    """A command with help in the user's language, and with options whose value may be omitted."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line, after inserting the values that were omitted."""
        return typer.core.TyperCommand.parse_args(self, ctx, list(words_with_values(args)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        _set_headings()
        typer.core.TyperCommand.format_help(_in_users_language(self, ctx), ctx, formatter)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage line."""
        _write_usage(self, ctx, formatter)


def words_with_values(args: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line, inserting the default after each option whose value was omitted."""
    for number, word in enumerate(args):
        yield word
        if word in OPTIONAL_VALUES:
            value, values = OPTIONAL_VALUES[word]
            if not values.fullmatch("".join(args[number + 1 : number + 2])):
                yield value


class TranslatedGroup(typer.core.TyperGroup):
    """The group of all commands, with help and usage errors in the user's language."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, with a line for each command."""
        _set_headings()
        shown = _in_users_language(self, ctx)
        shown.commands = {name: _with_help(command) for name, command in self.commands.items()}
        typer.core.TyperGroup.format_help(shown, ctx, formatter)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage line."""
        _write_usage(self, ctx, formatter)

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Parse the options that precede the command."""
        with _errors_in_users_language():
            return super().make_context(*args, **more)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Parse the options of a command, and run it."""
        with _errors_in_users_language():
            return super().invoke(ctx)


def translated(text: str) -> str:
    """Translate a plain text, using the template in `LIBRARY_TEXTS` that it matches, or else the text itself.

    >>> translated("Missing option '--trials'.")
    "Missing option '--trials'."
    """
    for template in LIBRARY_TEXTS:
        if match := _pattern(template).fullmatch(text):
            values = match.groupdict()
            if _WITHIN in values:
                values[_WITHIN] = translated(values[_WITHIN])
            return rendered(Message(template, **values))
    return rendered(Message(text.replace("{", "{{").replace("}", "}}")))


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(
        "".join(re.escape(text) + (f"(?P<{name}>.+)" if name else "") for text, name, _ in pieces(template)),
        re.DOTALL,
    )


@contextmanager
def _errors_in_users_language() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        error.message = rendered(error.message)
        _translate(error)
        raise
    except Exception as error:
        _translate(error)
        raise


def _translate(error: Any) -> None:
    """Make a Typer usage error show its message in the user's language."""
    if is_usage_error(error):
        _set_headings()
        said = error.format_message()
        error.format_message = lambda: translated(said)


def is_usage_error(error: Any) -> TypeGuard[Any]:
    """Return whether an error is a usage error from Typer; its class is not public, so attributes decide."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def print_usage_error(error: Any) -> None:
    """Print a usage error as Typer does in standalone mode."""
    from typer import rich_utils

    rich_utils.rich_format_error(error)


def _in_users_language(command: Any, ctx: Any) -> Any:
    """Return a copy of a command, with its help and the help of its options in the user's language."""
    shown = _with_help(command)
    params = [_with_help(param) for param in command.get_params(ctx)]
    shown.get_params = lambda ctx: params
    return shown


def _with_help(named: Any) -> Any:
    """Return a copy of a command, option or argument, with its help in the user's language."""
    shown = copy.copy(named)
    if getattr(named, "help", None):
        shown.help = translated(named.help)
    return shown


def _write_usage(command: Any, ctx: Any, formatter: Any) -> None:
    words = " ".join(command.collect_usage_pieces(ctx))
    formatter.write_usage(ctx.command_path, words, f"{rendered(Message('Usage:'))} ")


def _set_headings() -> None:
    """Replace Typer's panel headings and other fixed texts with those in the user's language."""
    from typer import rich_utils  # slow to import, and most commands need none of it

    from loraloom.console.wrapping import BreakableText

    highlight = rich_utils.OptionHighlighter()
    rich_utils.highlighter = lambda text: BreakableText.of(highlight(text))  # type: ignore[assignment]
    rich_utils.ARGUMENTS_PANEL_TITLE = rendered(Message("Arguments"))
    rich_utils.OPTIONS_PANEL_TITLE = rendered(Message("Options"))
    rich_utils.COMMANDS_PANEL_TITLE = rendered(Message("Commands"))
    rich_utils.ERRORS_PANEL_TITLE = rendered(Message("Error"))
    rich_utils.DEFAULT_STRING = f"[{rendered(Message('default: {value}', value='{}'))}]"
    rich_utils.REQUIRED_LONG_STRING = f"[{rendered(Message('required'))}]"
    help_of = rendered(Message("Try {command} for help.", command="{}"))
    rich_utils.RICH_HELP = help_of.format("[blue]'{command_path} {help_option}'[/]")

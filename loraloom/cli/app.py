"""All commands, in the order that `--help` lists them, and an exit code for each way a command can end.

Each command imports what it needs only when it is run, so that `--help` is instant.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, NoReturn

import typer

from loraloom.cli.adapter_verbs import card, push
from loraloom.cli.answer_verbs import compare, predict, report, runs
from loraloom.cli.folder_verbs import export, merge
from loraloom.cli.language_option import check_language, user_language
from loraloom.cli.rank_steps import SHARED_VERBS, leaves_it_to_leader, run_verb
from loraloom.cli.recipe_verbs import check, find_lr, init, recipe_schema
from loraloom.cli.serving_verbs import serve
from loraloom.cli.training_verbs import demo, search, train
from loraloom.cli.translated_help import TranslatedCommand, TranslatedGroup
from loraloom.cli.ui_verb import ui
from loraloom.distributed.joining import must_print
from loraloom.distributed.launch import Launch, read_launch
from loraloom.errors import Interrupted, LoRALoomError
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.training.signals import leave_on_signals

# A verb by the name that users type, in the order of `--help`.
VERBS = {
    verb.__name__.replace("_", "-"): verb
    for verb in (
        init,
        check,
        train,
        search,
        compare,
        report,
        predict,
        merge,
        export,
        card,
        push,
        ui,
        serve,
        runs,
        demo,
        find_lr,
        recipe_schema,
    )
}


def make_app(*names: str) -> typer.Typer:
    """Make a command line that has only these commands.

    Before Typer reads the command line, it inspects every option of every command, which takes longer than
    many commands take to run; with only the one command that the user typed, this is instant.
    """
    made = typer.Typer(
        cls=TranslatedGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help=Message(
            "Fine-tune encoder-decoder models with LoRA: many adapters on one frozen base, nothing silent."
        ),
    )
    made.callback(invoke_without_command=True)(_root)
    for name in names:
        made.command(name, cls=TranslatedCommand)(VERBS[name])
    return made


def _root(
    version: Annotated[bool, typer.Option("--version", help=Message("Show the version and exit."))] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("loraloom"))
        raise typer.Exit


app = make_app(*VERBS)


def main() -> None:
    """Run the command line; an expected error ends it with a message and an exit code, not a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    _write_utf8()
    with user_language():
        _run()


def _run() -> None:
    launch = Launch()
    try:
        check_language()
        verb = sys.argv[1] if len(sys.argv) > 1 else ""
        launch = read_launch()
        with leave_on_signals():
            if leaves_it_to_leader(launch, verb):
                return
            launch = launch if verb in SHARED_VERBS else Launch()  # the others have ended
            run_verb(make_app(verb) if verb in VERBS else app, launch)
    except LoRALoomError as error:
        _end_with(error, launch)
    except Interrupted as stop:
        if not launch.is_follower:
            print(rendered(stop.as_message()), file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        print(rendered(Message("interrupted")), file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        # For example a full disk while writing a file for which no workflow expects a failure.
        file = f": {error.filename}" if error.filename else ""
        print(f"{type(error).__name__}: {error.strerror or error}{file}", file=sys.stderr)
        sys.exit(1)


def _end_with(error: LoRALoomError, launch: Launch) -> NoReturn:
    """Print why this process ends, unless another rank prints it, and end the process."""
    if must_print(launch, error):
        kind = f"rank {launch.rank}: " * launch.is_follower + type(error).__name__
        print(f"{kind}: {rendered(error.as_message())}", file=sys.stderr)
    sys.exit(1)


def _write_utf8() -> None:
    """Write UTF-8 to files, pipes and ASCII terminals in every locale; other terminals keep theirs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ours = not stream.isatty() or stream.encoding.lower() in ("ascii", "us-ascii")
            stream.reconfigure(encoding="utf-8" if is_ours else stream.encoding, errors="backslashreplace")

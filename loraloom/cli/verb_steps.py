"""Steps shared by commands: read a recipe, import a workflow, show progress, print JSON."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from loraloom.distributed.launch import read_launch
from loraloom.text.catalogue import rendered_data
from loraloom.text.message import Message

if TYPE_CHECKING:
    from loraloom.console import Display
    from loraloom.data.splitting.split import Split
    from loraloom.recipe import Recipe
    from loraloom.workers.ray_options import RayOptions


@contextmanager
def importing() -> Iterator[None]:
    """Disable garbage collection while a workflow, and with it torch and transformers, is imported.

    The import creates some 400,000 objects that live as long as the process. Examining them would take a
    fifth of the import time and most of the time to exit. They are frozen afterwards, so that the garbage
    collector never examines them.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def read(recipe: str, sets: list[str], display: Display, *, resume: Path | None = None) -> Recipe:
    """Read a recipe for a new or resumed run."""
    from loraloom.recipe.reading import read_recipe_with_notes
    from loraloom.run.events import Note, WarningNote
    from loraloom.run.folder import Run

    resumed = None if resume is None else Run(resume).recipe_file
    if resumed is not None and not resumed.is_file():
        resumed = None  # the command reports what is wrong with the run
    reading = read_recipe_with_notes(recipe, sets, resumed=resumed)
    for note in reading.notes:
        display((WarningNote if note.is_warning else Note)(message=note.as_message()))
    return reading.recipe


def split_recipe_data(recipe: Recipe, allow: list[str], display: Display) -> Split:
    """Split the data before a workflow and torch are imported, so that problems are reported early."""
    from loraloom.data.splitting.split import split_examples
    from loraloom.run.events import Note

    return split_examples(
        recipe.data,
        allow_leakage="leakage" in allow,
        progress=lambda message: display(Note(message=message)),
    )


def split_for_run(recipe: Recipe, allow: list[str], display: Display) -> Split | None:
    """Split the data as `split_recipe_data` does; None if the run will keep the rows in files of its own."""
    from loraloom.data.splitting.split import stored_because

    return None if stored_because(recipe.data) is not None else split_recipe_data(recipe, allow, display)


@contextmanager
def displayed(as_json: bool = False) -> Iterator[Display]:
    """Show progress on stderr; with `--json`, only warnings."""
    from loraloom.console import Display

    display = Display(is_quiet=as_json, is_silent=read_launch().is_follower)
    try:
        yield display
    finally:
        display.close()


def command(*words: str | Path) -> str:
    """Format a command to paste; names with spaces are quoted."""
    return shlex.join(["loraloom", *map(str, words)])


def moved_words(base: Path | None = None, data: Path | None = None) -> list[str | Path]:
    """Return `--base` and `--data` options to repeat in the next command, if the base or data has moved."""
    return [word for option, path in (("--base", base), ("--data", data)) if path for word in (option, path)]


def check_adapter_options(
    run: Path | None, base: Path | None, adapters: Sequence[str], only_with_run: Mapping[str, object]
) -> None:
    """Refuse invalid combinations: either a run must be given, or adapters with a base, not both.

    Args:
        run, base, adapters: what the user gave on the command line.
        only_with_run: options that require a run → their values.
    """
    if not adapters and run is None:
        raise typer.BadParameter(Message("give a run, or --base FOLDER and --adapter FOLDER"))
    if adapters and run is not None:
        raise typer.BadParameter(Message("--adapter cannot be combined with RUN, which has its own adapters"))
    if adapters and base is None:
        raise typer.BadParameter(Message("--adapter requires --base, the base that it was trained on"))
    if adapters and (given := [option for option, value in only_with_run.items() if value]):
        raise typer.BadParameter(
            Message("{given} can only be used with a run, not with --adapter", given=", ".join(given))
        )


def ray_options(address: str | None, num_cpus: int | None, sends_files: bool) -> RayOptions | None:
    """Return the settings for the Ray cluster that the user asked for; None without `--ray`."""
    from loraloom.workers.ray_options import RayOptions

    if address is not None:
        return RayOptions(address, num_cpus, sends_files)
    if num_cpus is not None or sends_files:
        raise typer.BadParameter(Message("--ray-cpus and --send-files require --ray"))
    return None


def refuse_sets_of_run(run: Path | None, sets: Sequence[str]) -> None:
    """Refuse `--set` together with a run, because a run has its own settings."""
    if run is not None and sets:
        raise typer.BadParameter(
            Message("--set requires --adapter, because a run answers with its own recipe")
        )


def print_json(value: Any) -> None:
    """Print a JSON document to stdout: keys as they are, messages in the user's language."""
    from loraloom.console import put

    put(json.dumps(rendered_data(value), ensure_ascii=False, indent=1, allow_nan=False) + "\n")

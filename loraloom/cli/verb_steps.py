"""What several verbs do on their way: read a recipe, import a workflow, show progress, print JSON."""

from __future__ import annotations

import gc
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraloom.console import Display
    from loraloom.data.splitting.split import Split
    from loraloom.recipe import Recipe


@contextmanager
def importing() -> Iterator[None]:
    """While a workflow is imported, and torch and transformers with it, nothing looks for garbage.

    They make some 400,000 objects that live as long as the process. Going through them again and again
    is a fifth of the import, and once more most of the process's end; frozen, they are passed over.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def read(recipe: str, sets: list[str], display: Display, *, resume: Path | None = None) -> Recipe:
    """A recipe, for a new run or the one that is resumed."""
    from loraloom.recipe.reading import read_recipe_with_notes
    from loraloom.run.events import Note, WarningNote
    from loraloom.run.folder import Run

    resumed = None if resume is None else Run(resume).recipe_file
    if resumed is not None and not resumed.is_file():
        resumed = None  # the verb says what is wrong with the run
    reading = read_recipe_with_notes(recipe, sets, resumed=resumed)
    for note in reading.notes:
        display((WarningNote if note.is_warning else Note)(message=str(note)))
    return reading.recipe


def split_recipe_data(recipe: Recipe, allow: list[str]) -> Split:
    """Before a workflow is imported, and torch with it: a complaint about data comes at once."""
    from loraloom.data.splitting.split import split_examples

    return split_examples(recipe.data, allow_leakage="leakage" in allow)


@contextmanager
def displayed(as_json: bool = False) -> Iterator[Display]:
    """Progress on stderr; with `--json` only what must not be missed."""
    from loraloom.console import Display

    display = Display(is_quiet=as_json)
    try:
        yield display
    finally:
        display.close()


def command(*words: str | Path) -> str:
    """A command line of ours to paste; names with spaces are quoted."""
    return shlex.join(["loraloom", *map(str, words)])


def moved_words(base: Path | None = None, data: Path | None = None) -> list[str | Path]:
    """The options that name a moved base and moved data, for the next command."""
    return [word for option, path in (("--base", base), ("--data", data)) if path for word in (option, path)]


def print_json(value: Any) -> None:
    """One document on stdout."""
    from loraloom.console import put

    put(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")

"""Arguments of the API's functions: paths, recipes, cancellation tokens, adapters without a run."""

from __future__ import annotations

from pathlib import Path

from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_recipe_with_notes
from loraloom.run.events import Note, Report, WarningNote
from loraloom.training.signals import StopRequest

AnyRecipe = Recipe | Path | str
"""A recipe, its file, or the name of a built-in recipe."""


def as_path(value: Path | str | None) -> Path | None:
    """Convert an optional string or path to a path."""
    return None if value is None else Path(value)


def token(stop: StopRequest | None) -> StopRequest:
    """Return the caller's cancellation token, or one that is never set; no signal handler is installed."""
    return StopRequest() if stop is None else stop  # `or` would replace an unset token, which is falsy


def read(recipe: AnyRecipe, report: Report, *, resumed: Path | None = None) -> Recipe:
    """Return a recipe as given, or read it from its file and report the notes on it.

    Args:
        recipe: the recipe, or its file or name.
        report: called with the notes.
        resumed: folder of the run that is resumed with the recipe; None for a new run.
    """
    if isinstance(recipe, Recipe):
        return recipe
    from loraloom.run.folder import Run

    own = None if resumed is None else Run(resumed).recipe_file
    reading = read_recipe_with_notes(recipe, resumed=own if own is not None and own.is_file() else None)
    for note in reading.notes:
        report((WarningNote if note.is_warning else Note)(message=note.as_message()))
    return reading.recipe


def given_base(base: Path | str | None, adapters: object) -> Path | str:
    """Return the base for adapters without a run.

    Raises:
        TypeError: the base or the adapters are missing.
    """
    if base is None or not adapters:
        raise TypeError("without a run, an adapter and its base are needed")
    return base


def refuse_beside_run(*given: object) -> None:
    """Refuse arguments that are only allowed without a run, because a run determines them.

    Raises:
        TypeError: any of these is given.
    """
    if any(given):
        raise TypeError("a run determines its own adapters, settings and comparisons")

"""What a program gives to a verb, as the verb takes it: paths, recipes, a token, adapters without a run."""

from __future__ import annotations

from pathlib import Path

from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_recipe_with_notes
from loraloom.run.events import Note, Report, WarningNote
from loraloom.training.signals import StopRequest

AnyRecipe = Recipe | Path | str
"""A recipe, its file, or the name of one that comes with LoRALoom."""


def as_path(value: Path | str | None) -> Path | None:
    """A path, however it is given."""
    return None if value is None else Path(value)


def token(stop: StopRequest | None) -> StopRequest:
    """The caller's, or one that nobody sets: a verb that has one installs no signal handlers."""
    return StopRequest() if stop is None else stop  # one that is not set is false


def read(recipe: AnyRecipe, report: Report, *, resumed: Path | None = None) -> Recipe:
    """A recipe as given, or from its file; what reading it brought to light is told."""
    if isinstance(recipe, Recipe):
        return recipe
    from loraloom.run.folder import Run

    own = None if resumed is None else Run(resumed).recipe_file
    reading = read_recipe_with_notes(recipe, resumed=own if own is not None and own.is_file() else None)
    for note in reading.notes:
        report((WarningNote if note.is_warning else Note)(message=str(note)))
    return reading.recipe


def given_base(base: Path | str | None, adapters: object) -> Path | str:
    """The base of adapters that belong to no run.

    Raises:
        TypeError: it or the adapters are missing.
    """
    if base is None or not adapters:
        raise TypeError("without a run, an adapter and its base are needed")
    return base


def refuse_beside_run(*given: object) -> None:
    """Refuse what a run has of its own.

    Raises:
        TypeError: something is given.
    """
    if any(given):
        raise TypeError("a run has adapters, settings and comparisons of its own")

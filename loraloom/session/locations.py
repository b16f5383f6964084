"""Where what a run's recipe names is now: in the folder that it was begun in, unless it was moved.

A base or data in another place takes the place of the recorded one if it is the same, by its fingerprint or
its sha256; nothing in the run changes by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loraloom.data.files.relocation import find_moved
from loraloom.errors import DataError, ModelError, Problem, RunError
from loraloom.recipe import Recipe
from loraloom.recipe.relative_paths import Locations
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run


@dataclass(frozen=True)
class Relocation:
    """Where a user says that a run's base and data are now; None for what was not moved."""

    base: Path | None = None
    data: Path | None = None


def relocated(
    run: Run, recipe: Recipe, known: Provenance, relocation: Relocation
) -> tuple[Recipe, list[str]]:
    """A run's recipe with what it names where it is now.

    Args:
        run, recipe, known: the run, its recipe in its folder, and its provenance.
        relocation: what the user says was moved.

    Returns:
        The recipe, and notes on what is read from another place than the run was begun with.

    Raises:
        DataError, ModelError: there is nothing at the new place of base or data.
    """
    base, data = relocation.base, relocation.data
    recorded = Path(known.folder)
    here = recipe.folder
    moved: dict[str, Path] = {}
    notes = []
    if base is not None and not base.is_dir():
        what = "a model is a folder, and this is a file" if base.exists() else "there is no such folder"
        raise ModelError(
            what,
            where=f"--base {base}",
            found=f"nothing at {base.absolute()}" if not base.exists() else "",
            fix=f"Name the folder where {_base_words(recipe, known)} is now.",
        )
    if data is not None:
        moved = find_moved(recipe.data, data, _sums(run, recipe, known))
        if data.is_dir() and not here.is_dir():
            here = data
        notes.append(
            f"data of the run is looked for at {data.absolute()}; it was begun with that of {recorded}"
        )
    if base is not None:
        notes.append(
            f"the base is looked for at {base.absolute()}; the run names `{recipe.model_name_or_path}`"
        )
    if here.resolve() != recorded:
        notes.append(f"the recipe's paths start from {here.resolve()}; the run was begun in {recorded}")
    base = None if base is None else base.absolute()
    return recipe.located(Locations(here.absolute(), base, moved)), notes


def _sums(run: Run, recipe: Recipe, known: Provenance) -> dict[str, str]:
    """The sha256 of every file of the run's data, by its name."""
    try:
        files = SplitRecord.read(run.split_file).files
    except RunError:  # reading the split says what is wrong with it
        files = {}
    retained = known.retain
    if isinstance(retained, str) and isinstance(recipe.data.retain, str):
        retained = {recipe.data.retain: retained}
    return files | (retained if isinstance(retained, dict) else {})


@contextmanager
def explain_data_location(run: Run, recipe: Recipe, known: Provenance) -> Iterator[None]:
    """Add to a complaint about a run's data where it was looked for, and how to name another place."""
    try:
        yield
    except DataError as error:
        moved = "; ".join(f"{name} at {path}" for name, path in recipe.locations.data.items())
        found = f"looked for in {recipe.folder}{f'; {moved}' if moved else ''}"
        if str(recipe.folder) != known.folder:
            found += f"; the run was begun in {known.folder}"
        problem = Problem(
            "the run's data must be as it was",
            where=str(run.folder),
            found=found,
            fix="If it was moved, name the file or folder where it is now with --data PATH.",
        )
        raise DataError([*error.problems, problem]) from None


@contextmanager
def explain_base_location(recipe: Recipe, known: Provenance) -> Iterator[None]:
    """Add to a complaint about a run's base where it was looked for, and how to name another place."""
    try:
        yield
    except ModelError as error:
        if error.problems[0].where == "device":
            raise
        searched = recipe.locations.base or recipe.locations.path_of(recipe.model_name_or_path)
        problem = Problem(
            f"the run was begun with {_base_words(recipe, known)}",
            found=f"looked for at {searched}",
            fix="If it was moved or renamed, name the folder where it is now with --base PATH.",
        )
        raise ModelError([*error.problems, problem]) from None


def _base_words(recipe: Recipe, known: Provenance) -> str:
    fingerprint = "" if known.base is None else known.base.fingerprint
    return f"the base `{recipe.model_name_or_path}`" + (f" ({fingerprint[:12]})" if fingerprint else "")

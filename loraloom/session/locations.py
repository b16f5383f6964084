"""Where what a run's recipe names is now: in the folder that it was begun in, unless it was moved.

A base or data in another place takes the place of the recorded one if it is the same, by its fingerprint or
its sha256; nothing in the run changes by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.data.files.relocation import find_moved
from loraloom.errors import DataError, ModelError, Problem, RunError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run


@dataclass(frozen=True)
class Relocation:
    """Where a user says that a run's base and data are now; None for what was not moved."""

    base: Path | None = None
    data: Path | None = None


@dataclass(frozen=True)
class Locations:
    """Where a run's base and data are.

    Args:
        folder: what the recipe's relative paths are relative to.
        base: the base's folder, in the place of the one that the recipe names.
        data: names of data in the recipe → where they are now; all others are where the recipe says.
        notes: what is read from another place than the run was begun with.
    """

    folder: Path
    base: Path | None = None
    data: Mapping[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_locations(
    run: Run,
    recipe: Recipe,
    known: Provenance,
    *,
    folder: Path | None = None,
    base: Path | None = None,
    data: Path | None = None,
) -> Locations:
    """Where a run's recipe finds what it names.

    Args:
        run, recipe, known: the run, its recipe, and its provenance.
        folder: what the recipe's paths are relative to; by default the folder that the run was begun in.
        base: the base's folder now.
        data: the folder that takes the place of the one where the data was; or a file.

    Raises:
        DataError, ModelError: there is nothing at `base` or `data`.
    """
    recorded = Path(known.folder)
    here = recorded if folder is None else folder
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
    return Locations(here.absolute(), None if base is None else base.absolute(), moved, tuple(notes))


def _sums(run: Run, recipe: Recipe, known: Provenance) -> dict[str, str]:
    """The sha256 of every file of the run's data, by its name."""
    try:
        saved = run.read_json(run.split_file)
        files = dict(saved["files"])
    except (RunError, KeyError, TypeError, ValueError):  # reading the split says what is wrong with it
        files = {}
    retained = known.retain
    if isinstance(retained, str) and isinstance(recipe.data.retain, str):
        retained = {recipe.data.retain: retained}
    return files | (retained if isinstance(retained, dict) else {})


@contextmanager
def explain_data_location(run: Run, places: Locations, known: Provenance) -> Iterator[None]:
    """Add to a complaint about a run's data where it was looked for, and how to name another place."""
    try:
        yield
    except DataError as error:
        moved = "; ".join(f"{name} at {path}" for name, path in places.data.items())
        found = f"looked for in {places.folder}{f'; {moved}' if moved else ''}"
        if str(places.folder) != known.folder:
            found += f"; the run was begun in {known.folder}"
        problem = Problem(
            "the run's data must be as it was",
            where=str(run.folder),
            found=found,
            fix="If it was moved, name the file or folder where it is now with --data PATH.",
        )
        raise DataError([*error.problems, problem]) from None


@contextmanager
def explain_base_location(recipe: Recipe, places: Locations, known: Provenance) -> Iterator[None]:
    """Add to a complaint about a run's base where it was looked for, and how to name another place."""
    try:
        yield
    except ModelError as error:
        if error.problems[0].where == "device":
            raise
        searched = places.base or places.folder / Path(recipe.model_name_or_path).expanduser()
        problem = Problem(
            f"the run was begun with {_base_words(recipe, known)}",
            found=f"looked for at {searched}",
            fix="If it was moved or renamed, name the folder where it is now with --base PATH.",
        )
        raise ModelError([*error.problems, problem]) from None


def _base_words(recipe: Recipe, known: Provenance) -> str:
    fingerprint = "" if known.base is None else known.base.fingerprint
    return f"the base `{recipe.model_name_or_path}`" + (f" ({fingerprint[:12]})" if fingerprint else "")

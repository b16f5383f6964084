"""Current locations of a run's base and data, which may have been moved.

A base in another location is used in place of the recorded one if its fingerprint is the same, and data if
its sha256 is the same. Nothing in the run changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loraloom.base.hub_snapshot import snapshot_of
from loraloom.data.files.relocation import find_moved
from loraloom.errors import DataError, ModelError, Problem, RunError
from loraloom.recipe import Recipe
from loraloom.recipe.relative_paths import Locations
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run
from loraloom.text.message import Message, joined


@dataclass(frozen=True)
class Relocation:
    """Current locations of a run's base and data, as given by the user; None for what was not moved."""

    base: Path | None = None
    data: Path | None = None


def relocated(
    run: Run, recipe: Recipe, known: Provenance, relocation: Relocation
) -> tuple[Recipe, list[str]]:
    """Return a run's recipe with the current locations of its base and data.

    Args:
        run, recipe, known: the run, its recipe with the folder that paths start from, and its provenance.
        relocation: locations given by the user.

    Returns:
        The recipe, and notes on what is read from a location other than the recorded one.

    Raises:
        DataError, ModelError: there is nothing at the new location of the base or the data.
    """
    base, data = relocation.base, relocation.data
    recorded = Path(known.folder)
    here = recipe.folder
    moved: dict[str, Path] = {}
    notes: list[str] = []
    if base is not None:  # a folder, or owner/name@revision
        base = Path(snapshot_of(base.as_posix(), allow_bin_weights=recipe.allow_bin_weights))
    if base is not None and not base.is_dir():
        what = (
            Message("a model is a folder, but this is a file")
            if base.exists()
            else Message("there is no such folder")
        )
        raise ModelError(
            what,
            where=f"--base {base}",
            found=Message("nothing at {absolute}", absolute=base.absolute()) if not base.exists() else "",
            fix=Message("Give the current folder of {base_words}.", base_words=_base_words(recipe, known)),
        )
    if data is not None:
        moved = find_moved(recipe.data, data, _sums(run, recipe, known))
        if data.is_dir() and not here.is_dir():
            here = data
        notes.append(
            Message(
                "the run's data is read from {folder}; the run was started in {recorded}",
                folder=data.absolute(),
                recorded=recorded,
            )
        )
    if base is not None:
        notes.append(
            Message(
                "the base is read from {folder}; the run was started with `{model_name_or_path}`",
                folder=base.absolute(),
                model_name_or_path=recipe.model_name_or_path,
            )
        )
    if here.resolve() != recorded:
        notes.append(
            Message(
                "the recipe's paths are relative to {folder}; the run started in {recorded}",
                folder=here.resolve(),
                recorded=recorded,
            )
        )
    base = None if base is None else base.absolute()
    return recipe.located(Locations(here.absolute(), base, moved)), notes


def _sums(run: Run, recipe: Recipe, known: Provenance) -> dict[str, str]:
    """Return a map from the name of every data file of the run to its recorded sha256."""
    try:
        files = SplitRecord.read(run.split_file).files
    except RunError:  # reading the split reports the damage
        files = {}
    retained = known.retain
    if isinstance(retained, str) and isinstance(recipe.data.retain, str):
        retained = {recipe.data.retain: retained}
    return files | (retained if isinstance(retained, dict) else {})


@contextmanager
def explain_data_location(run: Run, recipe: Recipe, known: Provenance) -> Iterator[None]:
    """Extend an error about a run's data with the location searched, and how to specify another one."""
    try:
        yield
    except DataError as error:
        moved = joined(
            "; ",
            (
                Message("{name} at {path}", name=name, path=path)
                for name, path in recipe.locations.data.items()
            ),
        )
        found = (
            Message("searched in {folder}; {moved}", folder=recipe.folder, moved=moved)
            if moved
            else Message("searched in {folder}", folder=recipe.folder)
        )
        if str(recipe.folder) != known.folder:
            found = Message("{found}; the run was started in {folder}", folder=known.folder, found=found)
        problem = Problem(
            Message("the run needs its data, unchanged"),
            where=str(run.folder),
            found=found,
            fix=Message("If it was moved, give its current file or folder with --data PATH."),
        )
        raise DataError([*error.problems, problem]) from None


@contextmanager
def explain_base_location(recipe: Recipe, known: Provenance) -> Iterator[None]:
    """Extend an error about a run's base with the location searched, and how to specify another one."""
    try:
        yield
    except ModelError as error:
        if error.problems[0].where == "device":
            raise
        searched = recipe.locations.base or recipe.locations.path_of(recipe.model_name_or_path)
        problem = Problem(
            Message("the run was started with {base_words}", base_words=_base_words(recipe, known)),
            found=Message("looked for at {searched}", searched=searched),
            fix=Message("If it was moved or renamed, give its current folder with --base PATH."),
        )
        raise ModelError([*error.problems, problem]) from None


def _base_words(recipe: Recipe, known: Provenance) -> str:
    fingerprint = "" if known.base is None else known.base.fingerprint
    return Message("the base `{model_name_or_path}`", model_name_or_path=recipe.model_name_or_path) + (
        f" ({fingerprint[:12]})" if fingerprint else ""
    )

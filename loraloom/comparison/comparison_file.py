"""Where a comparison is kept: its name, its lock, and a place for one that belongs to no run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from loraloom.data.prompts.prompts import Prompt
from loraloom.errors import RunError
from loraloom.recipe import EXPERIMENT_NAME
from loraloom.report.unfinished_comparisons import lock_file
from loraloom.run.events import Note, Report
from loraloom.run.folder import Run
from loraloom.run.lock import locked


def checked_name(name: str) -> str:
    """A comparison's name.

    Raises:
        RunError: it cannot be one.
    """
    if not EXPERIMENT_NAME.fullmatch(name):
        raise RunError(
            f"`{name}` cannot name a comparison", where="--name", allowed="letters, digits, `-`, `_` and `.`"
        )
    return name


def free_name(run: Run, what: str, rows: Sequence[Prompt], report: Report) -> str:
    """The name of a comparison that the user gives none: what it is of.

    Prompts differ from call to call. If there is a comparison of other prompts, it is kept, and this one gets
    a number.
    """
    if what != "prompts":
        return what
    sources = [row.source for row in rows]
    name, number = what, 1
    while (kept := run.comparisons / f"{name}.json").exists() and _sources_in(run, kept) != sources:
        number += 1
        name = f"{what}-{number}"
    if number > 1:
        message = f"the answers to other prompts stay where they are; these are kept as `{name}`"
        report(Note(message=f"{message} (--name gives another name)"))
    return name


def _sources_in(run: Run, file: Path) -> list[str] | None:
    """What a comparison asked; None if its file is not one that can be read."""
    try:
        return [str(row["source"]) for row in run.read_json(file)["rows"]]
    except (RunError, KeyError, TypeError):
        return None


def alone(comparisons: Path, name: str) -> AbstractContextManager[None]:
    """Hold a comparison, for this process alone."""
    comparisons.mkdir(exist_ok=True)
    return locked(
        lock_file(comparisons, name),
        doing=f"makes the comparison `{name}` of this run",
        where=comparisons.parent,
        fix="Wait for it, or give this one a name of its own with --name.",
        is_temporary=True,
    )


@contextmanager
def kept_at(file: Path | None) -> Iterator[tuple[Path, str]]:
    """The folder and the name of a comparison that belongs to no run; a temporary folder if it is not kept.

    Raises:
        RunError: the file cannot be that of a comparison, or another process is making it.
    """
    if file is None:
        with TemporaryDirectory(prefix="loraloom-") as folder:
            yield Path(folder), "comparison"
        return
    if file.suffix != ".json" or file.is_dir():
        raise RunError("a comparison is kept in a JSON file", where=f"--out {file}", fix="Name it FILE.json.")
    if not file.parent.is_dir():
        raise RunError("there is no such folder", where=str(file.parent), fix="Make it first.")
    fix = "Wait for it, or name another file with --out."
    with locked(
        lock_file(file.parent, file.stem),
        doing="makes this comparison",
        where=file,
        fix=fix,
        is_temporary=True,
    ):
        yield file.parent, file.stem

"""The file that stores a comparison: its name, its lock, and its location if there is no run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from loraloom.data.prompts.prompts import Prompt
from loraloom.errors import RunError
from loraloom.recipe import EXPERIMENT_NAME
from loraloom.report.unfinished_comparisons import lock_file
from loraloom.run.events import Note, Report
from loraloom.run.folder import Run
from loraloom.run.lock import locked
from loraloom.run.scratch import scratch_folder
from loraloom.text.message import Message


def checked_name(name: str) -> str:
    """Validate the name of a comparison.

    Raises:
        RunError: the name is invalid.
    """
    if not EXPERIMENT_NAME.fullmatch(name):
        raise RunError(
            Message("`{name}` is not a valid name for a comparison", name=name),
            where="--name",
            allowed=Message("letters, digits, `-`, `_` and `.`"),
        )
    return name


def free_name(run: Run, what: str, rows: Sequence[Prompt], report: Report) -> str:
    """Return the default name of a comparison: `what`, the kind of its rows (`test`, `eval` or `prompts`).

    Prompts differ between calls. A comparison of other prompts is kept, and the name of the new one gets a
    number: `prompts-2`.
    """
    if what != "prompts":
        return what
    sources = [row.source for row in rows]
    name, number = what, 1
    while (kept := run.comparisons / f"{name}.json").exists() and _sources_in(run, kept) != sources:
        number += 1
        name = f"{what}-{number}"
    if number > 1:
        message = Message(
            "earlier comparisons of other prompts are kept; this one is stored as `{name}`", name=name
        )
        report(Note(message=Message("{message} (use --name for a different name)", message=message)))
    return name


def _sources_in(run: Run, file: Path) -> list[str] | None:
    """Return the source texts of a stored comparison; None if its file cannot be read."""
    try:
        return [str(row["source"]) for row in run.read_json(file)["rows"]]
    except (RunError, KeyError, TypeError):
        return None


def alone(comparisons: Path, name: str) -> AbstractContextManager[None]:
    """Return a lock, for a `with` block, that lets only this process write a comparison."""
    comparisons.mkdir(exist_ok=True)
    return locked(
        lock_file(comparisons, name),
        doing=Message("is writing the comparison `{name}` of this run", name=name),
        where=comparisons.parent,
        fix=Message("Wait for it, or use a different name with `--name`."),
        is_temporary=True,
    )


@contextmanager
def kept_at(file: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the folder and name of a comparison that belongs to no run, and hold a lock on its file.

    If `file` is None, the folder is a temporary one.

    Raises:
        RunError: the file is not a .json file in an existing folder, or another process is writing it.
    """
    if file is None:
        with scratch_folder() as folder:
            yield folder, "comparison"
        return
    if file.suffix != ".json" or file.is_dir():
        raise RunError(
            Message("a comparison is stored in a JSON file"),
            where=f"--out {file}",
            fix=Message("Use a file name that ends in .json."),
        )
    if not file.parent.is_dir():
        raise RunError(
            Message("the folder does not exist"), where=str(file.parent), fix=Message("Create it first.")
        )
    fix = Message("Wait for it, or use another file with `--out`.")
    with locked(
        lock_file(file.parent, file.stem),
        doing=Message("is writing this comparison"),
        where=file,
        fix=fix,
        is_temporary=True,
    ):
        yield file.parent, file.stem

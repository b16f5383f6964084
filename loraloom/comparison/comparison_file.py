"""Where a comparison is kept: its name, its lock, and a place for one that belongs to no run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from loraloom.errors import RunError
from loraloom.recipe import EXPERIMENT_NAME
from loraloom.report.unfinished_comparisons import lock_file
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

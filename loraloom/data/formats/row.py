"""What every file format hands on: rows, and what was found besides them."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loraloom.errors import DataError, Problem
from loraloom.text.visible import quoted

# A message shows 20 problems and counts all; a million of them need not be kept to do that.
KEPT_PROBLEMS = 1_000
COUNTED_ONLY = Problem("a further problem, counted but not kept")
SHOWN_NAMES = 12
PATHS_ARE_RELATIVE = "paths in a recipe are relative to its folder, those of a command to the current one"
_ROW = re.compile(r"row \d+:? ")
_DROP_HINT = "To train without bad rows, set `data.on_invalid: drop`."


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a data file.

    Args:
        path: the file's name as the user wrote it.
        number: which record it is, from 1.
        line: the line it begins on, from 1; None where the format has no lines.
        values: what stands in each column.
    """

    path: str
    number: int
    line: int | None
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """`file:line`, or the file alone where it has no lines."""
        return location(self.path, self.line)


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A bad row that `data.on_invalid: drop` left out.

    Args:
        number: which row of its file, from 1.
        where: `file:line`, or the file alone where it has no lines.
        why: what is wrong with it, without any of its text.
    """

    number: int
    where: str
    why: str

    @property
    def place(self) -> str:
        """Its line as text; its row where the file has no lines."""
        line = re.search(r":(\d+)(?::\d+)?$", self.where)
        return line[1] if line else f"row {self.number}"


@dataclass(slots=True)
class Findings:
    """What reading a file turned up besides its rows.

    Args:
        notes: things accepted that a user should know of.
        bytes_read: how far reading has come in the file on disk.
        num_rows: how many rows the file says it has, where its format says so.
        on_invalid: `data.on_invalid`; with `drop`, a row with a problem is left out and the file is not
            refused for it. Left empty if no setting can say so.
    """

    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0
    num_rows: int | None = None
    on_invalid: Literal["", "error", "drop"] = ""
    _placed: list[tuple[float, Problem]] = field(default_factory=list)
    _dropped: dict[int, DroppedRow] = field(default_factory=dict)

    @property
    def num_problems(self) -> int:
        """How many things the file is refused for."""
        return len(self._placed)

    @property
    def problems(self) -> list[Problem]:
        """What the file is refused for, in file order; what concerns no row comes last."""
        placed = sorted(self._placed, key=lambda placed: placed[0])
        problems = [problem for _, problem in placed]
        if self.on_invalid == "error" and placed and placed[0][0] < math.inf:
            fix = f"{problems[0].fix} {_DROP_HINT}".strip()
            problems[0] = dataclasses.replace(problems[0], fix=fix)
        return problems

    @property
    def dropped(self) -> list[DroppedRow]:
        """The bad rows that were left out, in file order."""
        return [self._dropped[row] for row in sorted(self._dropped)]

    def is_bad(self, row: int) -> bool:
        """Whether a row has a problem and is left out for it."""
        return row in self._dropped

    def refuse(self, problem: Problem, row: float = math.inf) -> None:
        """Count a problem, and keep it while there are not too many.

        Args:
            problem: what is wrong.
            row: the number of the row it concerns; none where reading stops, or where what follows may
                have been read as a part of the row.
        """
        if self.on_invalid == "drop" and row < math.inf:
            number = int(row)
            self._dropped.setdefault(number, DroppedRow(number, problem.where, _why(problem)))
            return
        kept = self.num_problems < KEPT_PROBLEMS
        self._placed.append((row, problem) if kept else (math.inf, COUNTED_ONLY))

    def raise_problems(self) -> None:
        """Raise a DataError that holds every problem, if there is one."""
        if self._placed:
            raise DataError(self.problems)


def _why(problem: Problem) -> str:
    what = _ROW.sub("", problem.what, count=1)
    numbers = [f"{name}: {value}" for name, value in (("found", problem.found), ("allowed", problem.allowed))]
    return f"{what} ({', '.join(numbers)})" if problem.found else what


def location(path: str, line: int | None = None, column: int | None = None) -> str:
    """`file:line:column`, as far as they are known."""
    return ":".join(str(part) for part in (path, line, column) if part is not None)


def shown_names(names: list[str]) -> str:
    """Columns' names for a message, the first dozen of them."""
    listed = ", ".join(quoted(name) for name in names[:SHOWN_NAMES])
    return f"{listed} and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else listed


def check_file(path: Path, shown_as: str) -> None:
    """Refuse what cannot be read as a file, before a format sees it. Symbolic links are followed.

    Raises:
        DataError: `path` is missing, a directory, not a regular file, or not readable.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("no such file", where=shown_as, fix=_where_it_may_be(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"cannot be opened: {reason}", where=shown_as) from None
    if stat.S_ISDIR(mode):
        inside = _files_in(path)
        raise DataError(
            "is a directory; a file is needed",
            where=shown_as,
            fix=f"It holds {shown_names(inside)}." if inside else "",
        )
    if not stat.S_ISREG(mode):
        raise DataError("is not a regular file, so it cannot be read twice", where=shown_as)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}", where=shown_as, fix="Check its owner and permissions."
        ) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def _where_it_may_be(path: Path) -> str:
    if path.is_symlink():
        return "It is a symbolic link to a file that does not exist."
    folder = path.parent
    if not folder.is_dir():
        return f"The folder {folder.absolute()} does not exist either; {PATHS_ARE_RELATIVE}."
    siblings = _files_in(folder)
    same_stem = [name for name in siblings if Path(name).stem.lower() == path.stem.lower()]
    near = list(dict.fromkeys(same_stem + difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.7)))
    if near:
        return f"Did you mean {' or '.join(quoted(name) for name in near[:3])}?"
    return f"It was looked for in {folder.absolute()}; {PATHS_ARE_RELATIVE}."

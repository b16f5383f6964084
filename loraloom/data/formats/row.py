"""What reading a file of any format returns: its rows, and findings about the file."""

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
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted

# A message shows 20 problems and counts all of them, for which a million need not be kept.
KEPT_PROBLEMS = 1_000
COUNTED_ONLY = Problem(Message("a further problem, counted but not kept"))
SHOWN_NAMES = 12
PATHS_ARE_RELATIVE = Message(
    "paths in a recipe are relative to its folder, paths in a command to the current folder"
)
_ROW = re.compile(r"row \d+:? ")
_ROW_OF_TEMPLATE = re.compile(r"row \{\w+\}:? ")  # tools/messages/templates.py has the same pattern
_DROP_HINT = Message("To train without the invalid rows, set `data.on_invalid: drop`.")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a data file.

    Args:
        path: the file's name as written by the user.
        number: number of the record, from 1.
        line: number of its first line, from 1; None if the format has no lines.
        values: value of each column.
    """

    path: str
    number: int
    line: int | None
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """The place of the row: `file:line`, or the file alone if it has no lines."""
        return location(self.path, self.line)


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """An invalid row that `data.on_invalid: drop` dropped.

    Args:
        number: number of the row in its file, from 1.
        where: `file:line`, or the file alone if it has no lines.
        why: what is wrong with it, without any of its text.
    """

    number: int
    where: str
    why: str

    @property
    def place(self) -> str:
        """The row's line number as text, or its row number if the file has no lines."""
        line = re.search(r":(\d+)(?::\d+)?$", self.where)
        return line[1] if line else Message("row {number}", number=self.number)


@dataclass(slots=True)
class Findings:
    """Notes and problems found while reading a file.

    Args:
        notes: notes for the user on anything unusual that was not refused.
        bytes_read: how many bytes of the file on disk have been read.
        num_rows: number of rows that the file declares; None if its format has no such declaration.
        on_invalid: `data.on_invalid`; with `drop`, a row with a problem is dropped instead of causing the
            file to be refused. "" if the setting does not apply.
    """

    notes: list[str] = field(default_factory=list)
    bytes_read: int = 0
    num_rows: int | None = None
    on_invalid: Literal["", "error", "drop"] = ""
    _placed: list[tuple[float, Problem]] = field(default_factory=list)
    _dropped: dict[int, DroppedRow] = field(default_factory=dict)

    @property
    def num_problems(self) -> int:
        """Number of problems for which the file is refused."""
        return len(self._placed)

    @property
    def problems(self) -> list[Problem]:
        """The problems for which the file is refused, in file order; problems without a row come last."""
        placed = sorted(self._placed, key=lambda placed: placed[0])
        problems = [problem for _, problem in placed]
        if self.on_invalid == "error" and placed and placed[0][0] < math.inf:
            fixes = (problems[0].fix, _DROP_HINT)
            problems[0] = dataclasses.replace(problems[0], fix=joined(" ", filter(None, fixes)))
        return problems

    @property
    def dropped(self) -> list[DroppedRow]:
        """The invalid rows that were dropped, in file order."""
        return [self._dropped[row] for row in sorted(self._dropped)]

    def is_bad(self, row: int) -> bool:
        """Return whether a row was dropped because it has a problem."""
        return row in self._dropped

    def refuse(self, problem: Problem, row: float = math.inf) -> None:
        """Record a problem, or only count it if there are too many; `on_invalid: drop` drops its row instead.

        Args:
            problem: what is wrong.
            row: number of the row with the problem; infinity if reading cannot continue, or if following rows
                may have been read as part of this row.
        """
        if self.on_invalid == "drop" and row < math.inf:
            number = int(row)
            self._dropped.setdefault(number, DroppedRow(number, problem.where, _why(problem)))
            return
        kept = self.num_problems < KEPT_PROBLEMS
        self._placed.append((row, problem) if kept else (math.inf, COUNTED_ONLY))

    def raise_problems(self) -> None:
        """Raise a DataError with all problems, if there are any."""
        if self._placed:
            raise DataError(self.problems)


def _why(problem: Problem) -> str:
    what: str = problem.what
    if isinstance(what, Message) and (begin := _ROW_OF_TEMPLATE.match(what.template)):
        what = Message(what.template[begin.end() :], **what.values)
    else:
        what = _ROW.sub("", what, count=1) if _ROW.search(what) else what
    return dataclasses.replace(problem, what=what).without_place if problem.found else what


def location(path: str, line: int | None = None, column: int | None = None) -> str:
    """Format a place as `file:line:column`, without the parts that are not known."""
    return ":".join(str(part) for part in (path, line, column) if part is not None)


def shown_names(names: list[str]) -> str:
    """Format names for a message: the first twelve, and how many more there are."""
    listed = ", ".join(quoted(name) for name in names[:SHOWN_NAMES])
    return (
        Message("{listed} and {num_names} more", listed=listed, num_names=len(names) - SHOWN_NAMES)
        if len(names) > SHOWN_NAMES
        else listed
    )


def check_file(path: Path, shown_as: str) -> None:
    """Check that a path can be read as a file, following symbolic links.

    Raises:
        DataError: `path` is missing, a directory, not a regular file, or not readable.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(Message("no such file"), where=shown_as, fix=_where_it_may_be(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(Message("cannot be opened: {reason}", reason=reason), where=shown_as) from None
    if stat.S_ISDIR(mode):
        inside = _files_in(path)
        raise DataError(
            Message("is a directory; a file is needed"),
            where=shown_as,
            fix=Message("It contains {shown_names}.", shown_names=shown_names(inside)) if inside else "",
        )
    if not stat.S_ISREG(mode):
        raise DataError(Message("is not a regular file and so cannot be read twice"), where=shown_as)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            Message("cannot be read: {strerror}", strerror=error.strerror),
            where=shown_as,
            fix=Message("Check its owner and permissions."),
        ) from None


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def _where_it_may_be(path: Path) -> str:
    if path.is_symlink():
        return Message("It is a symbolic link to a file that does not exist.")
    folder = path.parent
    if not folder.is_dir():
        return Message(
            "The folder {absolute} does not exist either; {paths_are_relative}.",
            absolute=folder.absolute(),
            paths_are_relative=PATHS_ARE_RELATIVE,
        )
    siblings = _files_in(folder)
    same_stem = [name for name in siblings if Path(name).stem.lower() == path.stem.lower()]
    near = list(dict.fromkeys(same_stem + difflib.get_close_matches(path.name, siblings, n=3, cutoff=0.7)))
    if near:
        return Message("Did you mean {near}?", near=joined(" or ", (quoted(name) for name in near[:3])))
    return Message(
        "The file was searched for in {absolute}; {paths_are_relative}.",
        absolute=folder.absolute(),
        paths_are_relative=PATHS_ARE_RELATIVE,
    )

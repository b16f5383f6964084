"""The Python code of a script or notebook, and the location of each line; nothing is run or imported."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraloom.errors import DataError
from loraloom.text.message import Message
from loraloom.text.visible import one_line, printable

SUFFIXES = (".py", ".ipynb")
MAX_BYTES = 20_000_000  # a notebook contains the images of its outputs
# Cell magics whose cell is still Python; the cell of any other one belongs to another program.
_PYTHON_MAGICS = ("time", "timeit", "capture", "prun", "python", "python3")
_COMMAND = re.compile(r"^(?P<indent>\s*)(?:[!%]|[\w.]+\?\??\s*$|\?)")
_ASSIGNED_COMMAND = re.compile(r"^(?P<indent>\s*)(?P<name>[\w, ]+=\s*)[!%]\w.*$")
_PINNED = re.compile(r"(?<![\w.-])([A-Za-z][\w-]*)(?:\[[\w,]*\])?\s*==\s*([\w.]+)")


@dataclass(frozen=True)
class Source:
    """The statements of a script or notebook, with consecutive line numbers, and the location of each line.

    Args:
        name: the file's name in messages.
        body: statements; the lines of a notebook are numbered across all its cells.
        cells: for each line, the number of its code cell and of the line in that cell; empty for a script.
        pinned: package → version that the code installs with pip.
        unread: cells that are not Python: the location of each, and why it cannot be read.
    """

    name: str
    body: list[ast.stmt]
    cells: tuple[tuple[int, int], ...] = ()
    pinned: dict[str, str] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()

    def place(self, line: int) -> str:
        """Return the location of a line for messages."""
        if not self.cells:
            return f"{self.name}:{line}"
        cell, inner = self.cells[min(line, len(self.cells)) - 1]
        return Message("{name}, code cell {cell}:{line}", name=self.name, cell=cell, line=inner)


def is_script(path: Path | str) -> bool:
    """Return whether a file's name is that of a script or notebook, and not that of a recipe."""
    return Path(path).suffix.lower() in SUFFIXES


def read_source(path: Path) -> Source:
    """Read a script or notebook.

    Raises:
        DataError: the file cannot be read, is not a notebook, or is not Python.
    """
    name = printable(path.name)
    text = _text(path, name)
    if path.suffix.lower() == ".ipynb":
        return _of_cells(name, _cells(text, name))
    clean, pinned = _without_commands(text)
    try:
        return Source(name, _parse(clean).body, pinned=pinned)
    except SyntaxError as error:
        raise DataError(
            Message("the code is not Python 3 that can be parsed: {reason}", reason=one_line(error.msg)),
            where=f"{name}:{error.lineno or 1}",
            fix=Message(
                "Python 2 is not supported; run `python -m py_compile` on the file to see the same error."
            ),
        ) from None


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise DataError(Message("cannot be read: {reason}", reason=reason), where=name) from None
    if len(data) > MAX_BYTES:
        raise DataError(
            Message("the file is larger than 20 MB, the maximum for a script or notebook"), where=name
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(
            Message("is not UTF-8 text"), where=name, fix=Message("Save the file as UTF-8.")
        ) from None


def _parse(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (RecursionError, MemoryError):
        raise SyntaxError(Message("it is too deeply nested")) from None
    except ValueError as error:  # a null character
        raise SyntaxError(str(error)) from None


def _cells(text: str, name: str) -> list[str]:
    """Return the text of each code cell."""
    try:
        document = json.loads(text)
        cells = document["cells"] if "cells" in document else document["worksheets"][0]["cells"]
        return [_joined(cell) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise DataError(
            Message("the file is not a Jupyter notebook, which is JSON with a list of `cells`"), where=name
        ) from None


def _joined(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))  # `input` before version 4 of the format
    return source if isinstance(source, str) else "".join(source)


def _of_cells(name: str, cells: list[str]) -> Source:
    body: list[ast.stmt] = []
    lines: list[tuple[int, int]] = []
    pinned: dict[str, str] = {}
    unread = []
    for number, cell in enumerate(cells, start=1):
        text, found = _without_commands(cell)
        pinned |= found
        start = len(lines)
        lines += [(number, line) for line in range(1, text.count("\n") + 2)]
        try:
            module = _parse(text)
        except SyntaxError as error:
            place = Message("{name}, code cell {cell}:{line}", name=name, cell=number, line=error.lineno or 1)
            unread.append((place, one_line(error.msg)))
            continue
        body += ast.increment_lineno(module, start).body
    return Source(name, body, tuple(lines), pinned, tuple(unread))


def _without_commands(text: str) -> tuple[str, dict[str, str]]:
    """Replace Jupyter and shell commands, so that only Python remains; also return what pip installs."""
    lines = text.splitlines()
    pinned: dict[str, str] = {}
    for line in lines:
        if "pip" in line and "install" in line:
            pinned |= {package.lower(): version for package, version in _PINNED.findall(line)}
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and not first[2:].startswith(_PYTHON_MAGICS):
        return "\n" * (len(lines) - 1 if lines else 0), pinned
    return "\n".join(_python_of(lines)), pinned


def _python_of(lines: list[str]) -> list[str]:
    kept, continues = [], False
    for line in lines:
        if continues:
            kept.append("")
            continues = line.rstrip().endswith("\\")
        elif _COMMAND.match(line) and not _continues_expression(kept):
            kept.append(f"{line[: len(line) - len(line.lstrip())]}pass")
            continues = line.rstrip().endswith("\\")
        else:
            kept.append(_ASSIGNED_COMMAND.sub(r"\g<indent>\g<name>None", line))
    return kept


def _continues_expression(before: list[str]) -> bool:
    """Return whether a line that begins with `%` continues the expression of the line before."""
    return bool(before) and before[-1].rstrip().endswith(("(", ",", "\\", "+"))

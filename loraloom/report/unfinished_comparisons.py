"""Unfinished comparisons, as described by the first line of `compare/.<name>.partial.jsonl`.

{"format": 2, "key": …, "num_rows": 300}
{"rows": ["5f2a…", …], "answers": {model: …}, "sha256": …}
…
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from loraloom.run.folder import Run
from loraloom.run.lock import is_held
from loraloom.text.message import Message

FORMAT = 2
_ENDING = ".partial.jsonl"


@dataclass(frozen=True)
class UnfinishedComparison:
    """A comparison that is not finished.

    Args:
        name: name that its file will have.
        is_running: whether a process is working on it; otherwise it was interrupted.
        num_rows: number of its rows.
    """

    name: str
    is_running: bool
    num_rows: int

    @property
    def sentence(self) -> str:
        """The notice about this comparison in a report."""
        rows = (
            Message("1 row") if self.num_rows == 1 else Message("{num_rows:,} rows", num_rows=self.num_rows)
        )
        if self.is_running:
            return Message(
                "The comparison `{name}` of {rows} is still running; its answers are not shown yet.",
                name=self.name,
                rows=rows,
            )
        return Message(
            "A comparison `{name}` of {rows} was interrupted, so its answers are not shown. "
            "The same `loraloom compare` command resumes it.",
            name=self.name,
            rows=rows,
        )


def partial_file(comparisons: Path, name: str) -> Path:
    """Return the file in which a comparison stores answers until it is finished."""
    return comparisons / f".{name}{_ENDING}"


def lock_file(comparisons: Path, name: str) -> Path:
    """Return the lock file of a comparison."""
    return comparisons / f".{name}.lock"


def read_under_way(run: Run) -> list[UnfinishedComparison]:
    """List the unfinished comparisons of a run; files that are damaged or of other formats are ignored."""
    found = []
    for path in sorted(run.comparisons.glob(f".*{_ENDING}")):
        name = path.name.removesuffix(_ENDING)[1:]
        try:
            with path.open(encoding="utf-8") as file:
                header = json.loads(file.readline())
            if header["format"] == FORMAT and isinstance(header["num_rows"], int):
                found.append(
                    UnfinishedComparison(name, is_held(lock_file(run.comparisons, name)), header["num_rows"])
                )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return found

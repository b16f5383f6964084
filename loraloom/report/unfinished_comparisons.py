"""Comparisons that have begun and are not finished: what `compare/.<name>.partial.jsonl` says at its top.

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
        name: of the file it will be.
        is_running: whether a process is at it now; else it was interrupted.
        num_rows: how many rows it is of.
    """

    name: str
    is_running: bool
    num_rows: int

    @property
    def sentence(self) -> str:
        """What a reader of a report should know."""
        rows = (
            Message("1 row") if self.num_rows == 1 else Message("{num_rows:,} rows", num_rows=self.num_rows)
        )
        if self.is_running:
            return Message(
                "The comparison `{name}` of {rows} is being made now: its answers are not here yet.",
                name=self.name,
                rows=rows,
            )
        return Message(
            "A comparison `{name}` of {rows} was interrupted: its answers are not here. The "
            "same `loraloom compare` goes on with it.",
            name=self.name,
            rows=rows,
        )


def partial_file(comparisons: Path, name: str) -> Path:
    """Where a comparison keeps its answers until it is finished."""
    return comparisons / f".{name}{_ENDING}"


def lock_file(comparisons: Path, name: str) -> Path:
    """What the process holds that makes a comparison."""
    return comparisons / f".{name}.lock"


def read_under_way(run: Run) -> list[UnfinishedComparison]:
    """The comparisons of a run that are not finished; what is not ours or is damaged is left out."""
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

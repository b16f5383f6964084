"""How a run's JSON files are read: what a damaged one comes to, and what counts as a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from loraloom.errors import RunError
from loraloom.run.folder import Run

T = TypeVar("T")
# What a document of another shape than expected raises on its way into a dataclass.
DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError)


def read_document(
    run: Run, path: Path, *, formats: Collection[int], parse: Callable[[Any], T], fix: str
) -> T:
    """A document of a run as `parse` makes it.

    Args:
        path: the file.
        formats: those that this version can read.
        parse: from the document; what `DAMAGE` names may come out of it.
        fix: what makes another.

    Raises:
        RunError: the file is damaged, or of another format.
    """
    document = run.read_json(path)
    try:
        if document["format"] not in formats:
            raise RunError(
                "was written by another version of LoRALoom",
                where=str(path),
                found=f"format {document['format']}",
                allowed=", ".join(map(str, formats)),
                fix=fix,
            )
        return parse(document)
    except DAMAGE as error:
        raise RunError(f"is damaged: {type(error).__name__} {error}", where=str(path), fix=fix) from None


def finite(value: Any) -> float:
    """A number as a run's file should have it.

    Raises:
        ValueError, TypeError, OverflowError: it is none.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is no figure")
    return float(value)


def finite_or_none(value: Any) -> float | None:
    """A number, or None where the file says that there is none.

    Raises:
        ValueError, TypeError, OverflowError: it is neither.
    """
    return None if value is None else finite(value)

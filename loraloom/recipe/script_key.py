"""A key of another script: what its value would say here, and whether that holds anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANY_VALUE = None
OFF: tuple[Any, ...] = (False, None)
UNSET: tuple[Any, ...] = (None, False, [], {}, "")


@dataclass(frozen=True)
class ScriptKey:
    """A key of another script.

    Args:
        reason: why its value makes no difference, or why it cannot be had.
        allowed: values that say what happens anyway; ANY_VALUE where none makes a difference.
        fix: what to write in its place.
        needs: a setting, and for a value of this key the values which that setting must have.
    """

    reason: str
    allowed: tuple[Any, ...] | None = ANY_VALUE
    fix: str = ""
    needs: tuple[str, Mapping[Any, tuple[Any, ...]]] = field(default=("", {}))

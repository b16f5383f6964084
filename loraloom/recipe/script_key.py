"""A key of another training script, and which of its values ask for what LoRALoom does anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANY_VALUE = None
OFF: tuple[Any, ...] = (False, None)
UNSET: tuple[Any, ...] = (None, False, [], {}, "")


@dataclass(frozen=True)
class ScriptKey:
    """A key of another training script that is not a setting of LoRALoom.

    Args:
        reason: why its value makes no difference, or why it is not supported.
        allowed: values that ask for what LoRALoom does anyway; ANY_VALUE if no value makes a difference.
        fix: what to write instead.
        needs: path of a setting and, for each value of this key, the values that the setting may have.
    """

    reason: str
    allowed: tuple[Any, ...] | None = ANY_VALUE
    fix: str = ""
    needs: tuple[str, Mapping[Any, tuple[Any, ...]]] = field(default=("", {}))

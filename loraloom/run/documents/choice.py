"""An automatic choice, as provenance.json keeps it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """An automatic choice and why it was made."""

    value: str
    reason: str

"""An automatic choice, as provenance.json stores it."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.run.documents.document import Text


@dataclass(frozen=True)
class Choice:
    """An automatic choice and why it was made."""

    value: Text
    reason: Text

"""votes.json: what people chose who saw answers without their models' names."""

from __future__ import annotations

from typing import ClassVar

from loraloom.run.documents.document import Document, Part

FILE = "votes.json"
FORMAT = 1


class Vote(Part):
    """One blind vote.

    Args:
        time: when, with its zone.
        prompt: what was answered.
        answers: by model, in the order in which they were shown.
        chosen: the model whose answer was chosen; None if the voter saw no difference.
    """

    time: str
    prompt: str
    answers: dict[str, str]
    chosen: str | None


class Votes(Document):
    """All blind votes of a run, the oldest first."""

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)

    format: int
    votes: list[Vote]

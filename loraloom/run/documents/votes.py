"""votes.json: choices by people who saw the answers without the models' names."""

from __future__ import annotations

from typing import ClassVar

from loraloom.run.documents.document import Document, Part

FILE = "votes.json"
FORMAT = 1


class Vote(Part):
    """One blind vote.

    Args:
        time: time of the vote, with time zone.
        prompt: the prompt that was answered.
        answers: answers by model, in the order shown.
        chosen: the model whose answer was chosen; None if the voter saw no difference.
    """

    time: str
    prompt: str
    answers: dict[str, str]
    chosen: str | None


class Votes(Document):
    """All blind votes of a run, oldest first."""

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)

    format: int
    votes: list[Vote]

"""Writing blind votes to a run's votes.json."""

from __future__ import annotations

from loraloom.run.atomic import replace_text
from loraloom.run.documents.votes import FILE, FORMAT, Vote, Votes
from loraloom.run.folder import Run
from loraloom.run.lock import writing
from loraloom.text.message import Message


def add_vote(run: Run, vote: Vote) -> None:
    """Append a vote to the run's votes.json.

    Raises:
        RunError: votes.json is damaged, or another process keeps writing it.
        OSError: the file cannot be written.
    """
    path = run.folder / FILE
    with writing(path, doing=Message("is writing the votes")):
        known = Votes.read(path).votes if path.is_file() else []
        replace_text(path, Votes(format=FORMAT, votes=[*known, vote]).text())

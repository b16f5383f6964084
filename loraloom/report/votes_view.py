"""The blind votes of a run as the report shows them."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.evaluate.win_rates import WinRate, win_rates
from loraloom.run.documents.votes import FILE, Vote, Votes
from loraloom.run.folder import Run


@dataclass(frozen=True)
class VotesView:
    """The votes of a run, and the win rates of its models.

    Args:
        votes: the votes, oldest first.
        figures: win rate of each model, best first.
    """

    votes: tuple[Vote, ...]
    figures: tuple[WinRate, ...]

    @property
    def total(self) -> int:
        """Number of votes."""
        return len(self.votes)

    @property
    def num_models(self) -> int | None:
        """Number of models shown in each vote; None if not all votes showed the same models."""
        return len(self.figures) if all(each.num_shown == self.total for each in self.figures) else None

    @property
    def num_ties(self) -> int:
        """Number of votes in which no answer was preferred."""
        return sum(vote.chosen is None for vote in self.votes)


def read_votes(run: Run) -> VotesView:
    """Read the votes of a run; there may be none.

    Raises:
        RunError: votes.json is damaged.
    """
    path = run.folder / FILE
    votes = tuple(Votes.read(path).votes) if path.is_file() else ()
    return VotesView(votes, tuple(win_rates((vote.answers, vote.chosen) for vote in votes)))

"""The blind votes of a run as a Markdown table."""

from __future__ import annotations

from loraloom.report.markdown_text import plain, table
from loraloom.report.votes_view import VotesView
from loraloom.text import units
from loraloom.text.catalogue import filled, rendered


def votes_table(votes: VotesView) -> str:
    """Format the win rate of each model; return "" if there are no votes."""
    if not votes.total:
        return ""
    head = [filled("model"), filled("chosen"), filled("win rate"), filled("95 % interval")]
    rows = [
        [
            plain(each.model),
            filled("{num_wins:,} of {num_shown:,}", num_wins=each.num_wins, num_shown=each.num_shown),
            _share(each.rate),
            f"\\[{_share(each.low)}, {_share(each.high)}\\]",
        ]
        for each in votes.figures
    ]
    parts = [f"### {filled('Human votes')}", table(head, rows)]
    if votes.num_ties:
        parts.append(
            filled(
                "votes that found no difference, counted as shown and not chosen: {num_ties:,}",
                num_ties=votes.num_ties,
            )
        )
    return "\n\n".join(parts)


def _share(value: float) -> str:
    return str(rendered(units.percent(value)))

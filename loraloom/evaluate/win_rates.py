"""Win rates: how often each model's answer was chosen, with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

Z_95 = 1.959963984540054  # standard normal quantile of a two-sided 95 % interval


@dataclass(frozen=True)
class WinRate:
    """The win rate of a model.

    Args:
        model: its name.
        num_wins, num_shown: number of votes that chose the model's answer, and of votes that showed it.
        low, high: 95 % interval of the rate.
    """

    model: str
    num_wins: int
    num_shown: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The share of votes that chose the model's answer, among those that showed it."""
        return self.num_wins / self.num_shown


def win_rates(votes: Iterable[tuple[Iterable[str], str | None]]) -> list[WinRate]:
    """Compute each model's win rate; return the best model first.

    Args:
        votes: for each vote, the models whose answers were shown, and the chosen model, or None if the voter
            saw no difference.

    >>> votes = [(("base", "wide"), "wide"), (("base", "wide"), None)]
    >>> [(each.model, each.num_wins) for each in win_rates(votes)]
    [('wide', 1), ('base', 0)]
    """
    shown: dict[str, int] = {}
    wins: dict[str, int] = {}
    for models, chosen in votes:
        for model in models:
            shown[model] = shown.get(model, 0) + 1
            wins[model] = wins.get(model, 0) + (model == chosen)
    rates = [
        WinRate(model, wins[model], number, *wilson_interval(wins[model], number))
        for model, number in shown.items()
    ]
    return sorted(rates, key=lambda each: (-each.rate, each.model))


def wilson_interval(num_wins: int, num_trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share; usable even for few trials and for shares of 0 and 1.

    Source: Wilson, 1927.

    >>> low, high = wilson_interval(7, 10)
    >>> round(low, 3), round(high, 3)
    (0.397, 0.892)
    """
    share, square = num_wins / num_trials, Z_95**2
    middle = (share + square / (2 * num_trials)) / (1 + square / num_trials)
    reach = (
        Z_95
        / (1 + square / num_trials)
        * math.sqrt(share * (1 - share) / num_trials + square / (4 * num_trials**2))
    )
    return max(0.0, middle - reach), min(1.0, middle + reach)

"""Significance of differences: paired bootstrap over rows and seeds, verdicts in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loraloom.evaluate.metrics import Numbers
from loraloom.run.documents.comparison import Difference, DifferenceVerdict

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
CELLS_AT_ONCE = 4_000_000
# Resampling a handful of rows only repeats them; it does not show how other rows would differ.
FEWEST_ROWS = 5


@dataclass(frozen=True)
class Draws:
    """A figure, and its values for resampled rows and seeds.

    Args:
        value: the figure over all rows, averaged over seeds.
        drawn: the figure over rows and seeds drawn with replacement, float64 [resamples].
        num_rows: number of rows.
        deviation: standard deviation over seeds; None if there is only one seed.
    """

    value: float
    drawn: Numbers
    num_rows: int
    deviation: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the figure."""
        return _interval(self.drawn)


def draw_figures(
    statistics: Mapping[str, Numbers],
    figure: Callable[[Numbers], Numbers],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> dict[str, Draws]:
    """Compute a figure of several models over rows drawn with replacement, the same rows for every model.

    Args:
        statistics: statistics of each model, float64 [rows, k], for the same rows in the same order.
        figure: sums → figure, as in `Metric`.
        seed: determines the draws.

    Source: Efron, 1979; Koehn, 2004 for the paired form on corpus metrics.
    """
    together = np.hstack(list(statistics.values()))
    sums = resampled_sums(together, seed=seed, num_resamples=num_resamples)
    width = together.shape[1] // len(statistics)
    return {
        name: Draws(
            value=float(figure(own.sum(axis=0))),
            drawn=figure(sums[:, number * width : (number + 1) * width]),
            num_rows=len(own),
        )
        for number, (name, own) in enumerate(statistics.items())
    }


def resampled_sums(statistics: Numbers, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Numbers:
    """Compute sums [num_resamples, k] over rows of `statistics` [rows, k] drawn with replacement."""
    num_rows = len(statistics)
    generator = np.random.default_rng(seed)
    share = np.full(num_rows, 1 / num_rows)
    sums = np.empty((num_resamples, statistics.shape[1]))
    step = max(1, CELLS_AT_ONCE // num_rows)
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        # Counts of how often each row is drawn turn the sum over draws into one matrix product.
        sums[start : start + size] = generator.multinomial(num_rows, share, size=size) @ statistics
    return sums


def over_seeds(seeds: Sequence[Draws], *, seed: int = 0) -> Draws:
    """Average a figure over an experiment's seeds, with draws that also vary the seeds.

    Rows are drawn first, then seeds. With only three seeds, their spread is itself uncertain, and the
    bootstrap underestimates it a little, so such intervals are lower bounds on the uncertainty.

    Args:
        seeds: draws of each seed, at least one, over the same rows.
    """
    if len(seeds) == 1:
        return seeds[0]
    generator = np.random.default_rng([seed, len(seeds)])
    drawn = np.column_stack([own.drawn for own in seeds])
    weights = generator.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), size=len(drawn))
    values = [own.value for own in seeds]
    return Draws(
        value=float(np.mean(values)),
        drawn=(drawn * weights).sum(axis=1) / len(seeds),
        num_rows=seeds[0].num_rows,
        deviation=float(np.std(values, ddof=1)),
    )


def difference(
    ours: Draws,
    theirs: Draws,
    *,
    names: tuple[str, str],
    metric: str,
    higher_is_better: bool | None,
    nothing_changed: bool = False,
) -> Difference:
    """Compute the difference between two models in one metric, with its interval.

    Args:
        ours, theirs: draws over the same rows.
        names: names of the two models.
        metric: name of the metric.
        higher_is_better: whether higher is better; if None, the verdict is "higher" or "lower" instead of
            "better" or "worse".
        nothing_changed: whether both models gave the same answers to every row.
    """
    drawn = ours.drawn - theirs.drawn
    low, high = _interval(drawn)
    # Share of draws on the other side of 0, two-sided, counting the data themselves as one more draw.
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    verdict: DifferenceVerdict = _verdict(low, high, higher_is_better)
    if ours.num_rows < FEWEST_ROWS:
        p_value, verdict = 1.0, "too few rows"
    if nothing_changed:
        verdict = "nothing changed"
    return Difference(*names, metric, ours.value - theirs.value, low, high, p_value, verdict)


def corrected(differences: Sequence[Difference], higher_is_better: bool) -> list[Difference]:
    """Correct the p-values of differences tested together (Holm's step-down rule), then their verdicts.

    Source: Holm, 1979: of m hypotheses, the smallest p is multiplied by m, the next by m - 1, …
    """
    order = sorted(range(len(differences)), key=lambda index: differences[index].p_value)
    found, highest = list(differences), 0.0
    for rank, index in enumerate(order):
        own = differences[index]
        highest = max(highest, min(1.0, own.p_value * (len(order) - rank)))
        verdict: DifferenceVerdict = own.verdict
        if verdict not in ("nothing changed", "too few rows"):
            is_up = (own.difference > 0) == higher_is_better
            is_clear = highest <= 1 - CONFIDENCE
            verdict = ("better" if is_up else "worse") if is_clear else "no significant difference"
        found[index] = replace(own, p_value=highest, verdict=verdict)
    return found


def _interval(drawn: Numbers) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def _verdict(low: float, high: float, higher_is_better: bool | None) -> DifferenceVerdict:
    if low <= 0 <= high:
        return "no significant difference"
    if higher_is_better is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == higher_is_better else "worse"

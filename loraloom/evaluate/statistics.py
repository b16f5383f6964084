"""Is a difference more than luck with the rows? The paired bootstrap, and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from loraloom.evaluate.metrics import Numbers

Verdict = Literal["better", "worse", "no significant difference", "nothing changed"]

NUM_RESAMPLES = 10_000
CONFIDENCE = 0.95
CELLS_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Difference:
    """One model against another in one figure, over the same rows.

    Args:
        model, against: which models.
        metric: which figure.
        difference: model minus against, over all rows.
        low, high: the interval that holds it with 95 % confidence.
        verdict: in words; whether higher is better decides between better and worse.
    """

    model: str
    against: str
    metric: str
    difference: float
    low: float
    high: float
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """For compare/<name>.json."""
        return asdict(self)


def resampled_sums(statistics: Numbers, *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Numbers:
    """Sums over rows drawn with replacement.

    Args:
        statistics: [rows, k]; several models' side by side are drawn together, which pairs them.
        seed: the same one gives the same draws.

    Returns:
        [num_resamples, k].

    Source: Efron, 1979; Koehn, 2004 for the paired form on corpus metrics.
    """
    num_rows = len(statistics)
    generator = np.random.default_rng(seed)
    share = np.full(num_rows, 1 / num_rows)
    sums = np.empty((num_resamples, statistics.shape[1]))
    step = max(1, CELLS_AT_ONCE // num_rows)
    for start in range(0, num_resamples, step):
        size = min(step, num_resamples - start)
        # How often each row is drawn: the sum over draws is then one product.
        sums[start : start + size] = generator.multinomial(num_rows, share, size=size) @ statistics
    return sums


def compare_figures(
    ours: Numbers,
    theirs: Numbers,
    figure: Callable[[Numbers], Numbers],
    *,
    names: tuple[str, str],
    metric: str,
    higher_is_better: bool | None,
    nothing_changed: bool = False,
    seed: int = 0,
) -> Difference:
    """The difference of two models in one figure, with its interval.

    Args:
        ours, theirs: statistics of the same rows, [rows, k].
        figure: sums → figure, as in `Metric`.
        names: of the two models.
        metric: the figure's name.
        higher_is_better: None gives a verdict on the interval without praise or blame.
        nothing_changed: whether both gave the same answers to every row.
    """
    k = ours.shape[1]
    sums = resampled_sums(np.hstack([ours, theirs]), seed=seed)
    drawn = figure(sums[:, :k]) - figure(sums[:, k:])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    difference = float(figure(ours.sum(0)) - figure(theirs.sum(0)))
    verdict = _verdict(float(low), float(high), higher_is_better, nothing_changed)
    return Difference(names[0], names[1], metric, difference, float(low), float(high), verdict)


def _verdict(low: float, high: float, higher_is_better: bool | None, nothing_changed: bool) -> Verdict:
    if nothing_changed:
        return "nothing changed"
    if low <= 0 <= high or higher_is_better is None:
        return "no significant difference"
    return "better" if (low > 0) == higher_is_better else "worse"

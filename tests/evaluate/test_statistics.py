"""Intervals that hold what they promise, and verdicts that follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from loraloom.evaluate.metrics import METRICS, Numbers
from loraloom.evaluate.statistics import compare_figures, resampled_sums


def mean(sums: Numbers) -> Numbers:
    return np.asarray(sums[..., 0] / sums[..., 1])


def scores(values: Numbers) -> Numbers:
    return np.column_stack([values, np.ones(len(values))])


def test_resampled_sums_are_sums_of_as_many_rows_as_there_are() -> None:
    sums = resampled_sums(scores(np.arange(30.0)), seed=1, num_resamples=200)
    assert (sums[:, 1] == 30).all()
    assert sums[:, 0].std() > 0


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statistics = scores(np.random.default_rng(0).normal(size=50))
    whole = resampled_sums(statistics, seed=3, num_resamples=100)
    monkeypatch.setattr("loraloom.evaluate.statistics.CELLS_AT_ONCE", 50)
    assert whole == pytest.approx(resampled_sums(statistics, seed=3, num_resamples=100), rel=1e-12)


def test_about_95_of_100_intervals_hold_the_true_difference() -> None:
    generator = np.random.default_rng(7)
    held = 0
    for number in range(200):
        base = generator.normal(size=60)
        ours = base + 0.3 + generator.normal(scale=0.5, size=60)
        found = compare_figures(
            scores(ours),
            scores(base),
            mean,
            names=("a", "base"),
            metric="m",
            higher_is_better=True,
            seed=number,
        )
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 199


def test_pairing_makes_the_interval_narrower_than_the_spread_of_rows() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(scale=10, size=100)
    found = compare_figures(
        scores(base + 1), scores(base), mean, names=("a", "base"), metric="m", higher_is_better=True
    )
    assert (found.low, found.high) == pytest.approx((1, 1))
    assert found.verdict == "better"


@pytest.mark.parametrize(("shift", "higher_is_better", "verdict"), [
    (1.0, True, "better"),
    (1.0, False, "worse"),
    (-1.0, True, "worse"),
    (-1.0, False, "better"),
    (0.0, True, "no significant difference"),
    (1.0, None, "no significant difference"),
])  # fmt: skip
def test_the_verdict_follows_from_interval_and_direction(
    shift: float, higher_is_better: bool | None, verdict: str
) -> None:
    noise = np.random.default_rng(2).normal(size=200)
    noise -= noise.mean()
    base = np.zeros(200)
    found = compare_figures(
        scores(base + shift + noise * 0.5),
        scores(base),
        mean,
        names=("a", "base"),
        metric="m",
        higher_is_better=higher_is_better,
    )
    assert found.verdict == verdict
    assert found.difference == pytest.approx(shift)


def test_answers_that_are_all_the_base_s_changed_nothing() -> None:
    statistics = METRICS["chrf"].statistics(["冷静", "多休息"], ["保持冷静。", "好好休息。"])
    found = compare_figures(
        statistics,
        statistics,
        METRICS["chrf"].figure,
        names=("a", "base"),
        metric="chrf",
        higher_is_better=True,
        nothing_changed=True,
    )
    assert found.verdict == "nothing changed"
    assert (found.difference, found.low, found.high) == (0, 0, 0)

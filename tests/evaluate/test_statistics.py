"""Intervals that hold what they promise, and verdicts that follow from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loraloom.evaluate.metrics import METRICS, Numbers
from loraloom.evaluate.statistics import (
    Difference,
    Draws,
    corrected,
    difference,
    draw_figures,
    over_seeds,
    resampled_sums,
)


def mean(sums: Numbers) -> Numbers:
    return np.asarray(sums[..., 0] / sums[..., 1])


def compare(
    ours: Numbers,
    theirs: Numbers,
    higher_is_better: bool | None = True,
    *,
    seed: int = 0,
    figure: Callable[[Numbers], Numbers] = mean,
    nothing_changed: bool = False,
) -> Difference:
    draws = draw_figures({"a": ours, "base": theirs}, figure, seed=seed)
    return difference(
        draws["a"],
        draws["base"],
        names=("a", "base"),
        metric="m",
        higher_is_better=higher_is_better,
        nothing_changed=nothing_changed,
    )


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


def test_about_95_of_100_intervals_hold_the_true_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fifth of the draws, the ends of an interval are as right, only noisier."""
    monkeypatch.setattr(
        draw_figures, "__kwdefaults__", {**draw_figures.__kwdefaults__, "num_resamples": 2000}
    )
    generator = np.random.default_rng(7)
    held = 0
    for number in range(200):
        base = generator.normal(size=60)
        ours = base + 0.3 + generator.normal(scale=0.5, size=60)
        found = compare(scores(ours), scores(base), seed=number)
        held += found.low <= 0.3 <= found.high
    assert 180 <= held <= 199


def test_pairing_makes_the_interval_narrower_than_the_spread_of_rows() -> None:
    base = np.random.default_rng(1).normal(scale=10, size=100)
    found = compare(scores(base + 1), scores(base))
    assert (found.low, found.high) == pytest.approx((1, 1))
    assert found.verdict == "better"


@pytest.mark.parametrize(
    ("shift", "higher_is_better", "verdict"),
    [
        (1.0, True, "better"),
        (1.0, False, "worse"),
        (-1.0, True, "worse"),
        (-1.0, False, "better"),
        (0.0, True, "no significant difference"),
        (1.0, None, "higher"),
        (-1.0, None, "lower"),
    ],
)
def test_the_verdict_follows_from_interval_and_direction(
    shift: float, higher_is_better: bool | None, verdict: str
) -> None:
    noise = np.random.default_rng(2).normal(size=200)
    noise -= noise.mean()
    found = compare(scores(shift + noise * 0.5), scores(np.zeros(200)), higher_is_better)
    assert found.verdict == verdict
    assert found.difference == pytest.approx(shift)
    assert (found.p_value < 0.05) == (shift != 0)


def test_answers_that_are_all_the_base_s_changed_nothing() -> None:
    metric = METRICS["chrf"]
    statistics = metric.statistics(["冷静", "多休息"], ["保持冷静。", "好好休息。"])
    found = compare(statistics, statistics, figure=metric.figure, nothing_changed=True)
    assert found.verdict == "nothing changed"
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_a_handful_of_rows_decides_nothing() -> None:
    assert compare(scores(np.ones(4)), scores(np.zeros(4))).verdict == "too few rows"
    assert compare(scores(np.ones(5)), scores(np.zeros(5))).verdict == "better"


def test_seeds_that_disagree_widen_the_interval() -> None:
    base = np.random.default_rng(3).normal(size=100)
    draws = draw_figures({str(shift): scores(base + shift) for shift in (0.0, 1.0, 2.0)}, mean)
    alike = over_seeds([draws["1.0"]] * 3)
    apart = over_seeds(list(draws.values()))
    assert alike.value == pytest.approx(apart.value)
    assert alike.deviation == pytest.approx(0)
    assert apart.deviation == pytest.approx(1)
    low, high = apart.interval
    assert high - low > 2 * (alike.interval[1] - alike.interval[0])


def test_one_seed_stays_as_it_is() -> None:
    own = Draws(1.0, np.array([0.9, 1.1]), num_rows=9)
    assert over_seeds([own]) is own


def of(p_value: float, shift: float = 1.0) -> Difference:
    return Difference("a", "b", "m", shift, 0.1, 0.2, p_value, "better")


def test_holm_multiplies_the_smallest_p_by_their_number_and_never_lets_p_fall() -> None:
    found = corrected([of(0.03), of(0.01), of(0.04)], higher_is_better=True)
    assert [own.p_value for own in found] == pytest.approx([0.06, 0.03, 0.06])
    assert [own.verdict for own in found] == [
        "no significant difference",
        "better",
        "no significant difference",
    ]


def test_a_clear_loss_stays_worse_after_the_correction() -> None:
    assert corrected([of(0.001, shift=-1.0)], higher_is_better=True)[0].verdict == "worse"

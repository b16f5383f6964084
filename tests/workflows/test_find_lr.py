"""The range test: eight rates in one pass, and a suggestion that follows from what they did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom import Recipe
from loraloom.errors import DataError
from loraloom.workflows.find_lr import RATES, RateResult, find_learning_rate, suggest


def results(gains: dict[float, float | None]) -> list[RateResult]:
    return [RateResult(rate, None if gain is None else 5 - gain, gain) for rate, gain in gains.items()]


def test_of_rates_that_gain_as_much_the_smallest_is_suggested() -> None:
    rate, reason = suggest(results({1e-4: 0.1, 1e-3: 0.97, 1e-2: 1.0}))
    assert rate == 1e-3
    assert "0.01" in reason


def test_a_rate_that_did_not_stay_finite_is_never_suggested() -> None:
    assert suggest(results({1e-4: 0.1, 1e-3: None}))[0] == 1e-4


def test_where_no_rate_helps_none_is_suggested_and_that_is_said() -> None:
    rate, reason = suggest(results({1e-4: -0.1, 1e-3: None}))
    assert rate is None
    assert reason.startswith("No rate")


@pytest.mark.parametrize(("edge", "word"), [(RATES[0], "smaller"), (RATES[-1], "larger")])
def test_a_suggestion_at_the_edge_says_so(edge: float, word: str) -> None:
    reason = suggest(results({rate: 1.0 if rate == edge else 0.1 for rate in RATES}))[1]
    assert f"a {word} one may do" in reason


@pytest.fixture
def recipe(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[float], Recipe]:
    rows = [
        {"instruction": f"如何处理{a}{b}", "response": f"先{b}再{a}"} for a in "朋友学校" for b in "压力心情"
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")

    def make(held_out: float) -> Recipe:
        return Recipe.model_validate(
            {
                "model_name_or_path": str(tiny("mt5")),
                "data": {"train": "rows.json", "eval": held_out},
                "lora": {"r": 4},
            }
        )

    return make


def test_larger_rates_gain_more_on_a_model_that_knows_nothing(
    recipe: Callable[[float], Recipe], tmp_path: Path
) -> None:
    found = find_learning_rate(recipe(4), folder=tmp_path)
    assert [result.learning_rate for result in found.results] == list(RATES)
    gains = [result.gain for result in found.results]
    assert all(gain is not None for gain in gains)
    assert gains[0] < gains[3] < max(gains[4:])  # type: ignore[operator, type-var]
    assert found.suggestion in RATES[4:]
    assert not list(tmp_path.glob("runs"))


def test_without_eval_rows_it_is_refused(recipe: Callable[[float], Recipe], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs eval rows"):
        find_learning_rate(recipe(0), folder=tmp_path)

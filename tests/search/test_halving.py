"""Who is judged when, and who is too weak."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.data.timetable import Timetable
from loraloom.recipe import Experiment, LoraSettings, TrainingSettings
from loraloom.search.halving import rung_due, rung_steps, worse_half


def timetable(**training: Any) -> Timetable:
    settings = TrainingSettings(per_device_train_batch_size=1, **training)
    return Timetable(Experiment("a", "a", LoraSettings(), settings, 0), num_examples=10)


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"max_steps": 40, "eval_strategy": "steps", "eval_steps": 1}, {"25": 10, "50": 20}),
        ({"max_steps": 40, "eval_strategy": "steps", "eval_steps": 7}, {"25": 14, "50": 21}),
        ({"num_train_epochs": 3}, {"25": 10, "50": 20}),
        ({"num_train_epochs": 2}, {"50": 10}),  # one evaluation serves both, and is judged once
        ({"num_train_epochs": 1}, {}),
    ],
)
def test_a_rung_is_the_first_evaluation_after_its_share(
    training: dict[str, Any], expected: dict[str, int]
) -> None:
    assert rung_steps(timetable(**training)) == expected


def test_a_rung_is_due_once() -> None:
    steps = {"25": 2, "50": 4}
    assert [rung_due(steps, step, {}) for step in (1, 2, 3)] == [None, "25", "25"]
    assert rung_due(steps, 4, {"25": 1.0}) == "50"
    assert rung_due(steps, 4, {"25": 1.0, "50": 1.0}) is None


def test_the_worse_half_of_those_who_arrive_is_weak() -> None:
    figures = {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0}
    assert set(worse_half(figures, [], higher_is_better=False)) == {"b", "c"}
    assert set(worse_half(figures, [], higher_is_better=True)) == {"a", "d"}


def test_newcomers_are_held_against_those_before_them() -> None:
    assert worse_half({"late": 5.0}, [1.0, 2.0, 3.0], higher_is_better=False) == ["late"]
    assert worse_half({"late": 1.5}, [1.0, 2.0, 3.0], higher_is_better=False) == []


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9), st.lists(st.floats(-5, 5), max_size=9))
def test_at_least_half_of_the_field_and_the_best_of_all_go_on(
    arrived: list[float], passed: list[float]
) -> None:
    figures = {str(number): figure for number, figure in enumerate(arrived)}
    losers = worse_half(figures, passed, higher_is_better=False)
    assert len(losers) <= (len(arrived) + len(passed)) // 2
    if min(arrived) < min(passed, default=9):
        assert min(figures, key=lambda name: figures[name]) not in losers

"""What each setting did: only pairs that differ in nothing else show it; what is mixed is called mixed."""

from __future__ import annotations

from typing import Any

import pytest

from loraloom.recipe import Recipe
from loraloom.report.effects import Effect, _is_balanced, effects_of, settings_of
from loraloom.report.ranking import Cost, Place, Ranking
from loraloom.run.documents.comparison import Difference

FIGURES = {"narrow": 20.0, "wide": 30.0, "slow": 21.0, "both": 29.0}
CHANGES: dict[str, Any] = {
    "narrow": {"lora": {"r": 4}, "training": {"learning_rate": 1e-3}},
    "wide": {"lora": {"r": 16}, "training": {"learning_rate": 1e-3}},
    "slow": {"lora": {"r": 4}, "training": {"learning_rate": 1e-5}},
    "both": {"lora": {"r": 16}, "training": {"learning_rate": 1e-5}},
}


class FakeCompared:
    """Of a comparison what effects are taken from: the pairs."""

    def __init__(self, *names: str, verdict: str = "better") -> None:
        self.pairs = [
            Difference(a, b, "chrf", FIGURES[a] - FIGURES[b], -1.0, 2.0, 0.01, verdict)
            for number, a in enumerate(names)
            for b in names[number + 1 :]
        ]


def effects(*names: str, verdict: str = "better", is_judged: bool = True) -> dict[str, Effect]:
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": "starter",
            "data": {"train": "starter"},
            "experiments": {name: CHANGES[name] for name in names},
        }
    )
    cost = Cost(0, None, None, None, None)
    places = [Place(name, FIGURES[name], None, None, None, None, "", cost, None) for name in names]
    compared: Any = FakeCompared(*names, verdict=verdict)
    found = effects_of(recipe, Ranking("chrf", is_judged, places), compared if is_judged else None)
    return {effect.key: effect for effect in found}


def test_every_setting_that_differs_is_there_and_no_other() -> None:
    assert set(effects(*CHANGES)) == {"lora.r", "training.learning_rate"}
    assert set(effects("narrow", "slow")) == {"training.learning_rate"}


def test_pairs_that_differ_in_one_setting_alone_show_its_effect_from_low_to_high() -> None:
    rank = effects(*CHANGES)["lora.r"]
    assert [(c.other, c.value) for c in rank.contrasts] == [(4, 16), (4, 16)]
    assert [(c.difference.model, c.difference.against) for c in rank.contrasts] == [
        ("wide", "narrow"),
        ("both", "slow"),
    ]
    assert [c.difference.difference for c in rank.contrasts] == [10.0, 8.0]
    assert rank.contrasts[0].difference.verdict == "worse"  # `narrow` against `wide` was called better
    assert (rank.contrasts[0].difference.low, rank.contrasts[0].difference.high) == (-2.0, 1.0)


def test_a_balanced_table_mixes_nothing() -> None:
    assert [effect.mixed_with for effect in effects(*CHANGES).values()] == [[], []]


def test_settings_that_go_along_with_each_other_are_called_mixed_and_no_effect_is_claimed() -> None:
    found = effects("narrow", "both")
    assert found["lora.r"].contrasts == []
    assert found["lora.r"].mixed_with == ["training.learning_rate"]
    assert "No two experiments differ only in this setting" in found["lora.r"].sentence
    assert "mix its effect with those of `training.learning_rate`" in found["lora.r"].sentence


def test_means_are_over_the_experiments_with_a_value() -> None:
    low, high = effects(*CHANGES)["lora.r"].levels
    assert (low.value, low.experiments, low.mean) == (4, ["narrow", "slow"], 20.5)
    assert low.deviation == pytest.approx(0.5**0.5)
    assert (high.value, high.mean) == (16, 29.5)


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("better", "significant in all of them"), ("no significant difference", "significant in none of them")],
)
def test_the_sentence_counts_what_is_significant(verdict: str, said: str) -> None:
    sentence = effects(*CHANGES, verdict=verdict)["lora.r"].sentence
    assert said in sentence
    assert ("does not show that there is no effect" in sentence) == (verdict != "better")


def test_without_a_comparison_nothing_is_claimed() -> None:
    for effect in effects(*CHANGES, is_judged=False).values():
        assert effect.contrasts == []
        assert "an indication, not a result" in effect.sentence


def test_balance_counts_how_often_values_meet() -> None:
    settings = {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 2, "y": 1}}
    assert not _is_balanced("x", "y", settings)
    assert _is_balanced("x", "y", settings | {"d": {"x": 2, "y": 2}})


def test_the_seeds_of_an_experiment_share_its_settings() -> None:
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": "starter",
            "data": {"train": "starter"},
            "seeds": 3,
            "experiments": {"a": {}, "b": {"seed": 7}},
        }
    )
    settings = settings_of(recipe)
    assert set(settings) == {"a", "b"}
    assert (settings["a"]["seed"], settings["b"]["seed"]) == (42, 7)

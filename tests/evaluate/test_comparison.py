"""From answers to evidence: figures, movement, and sentences that say first what did nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.base.frozen_linear import frozen_linear
from loraloom.base.loading import load_base
from loraloom.evaluate import comparison, conclusions
from loraloom.evaluate.comparison import ModelAnswers
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.movement import movement
from loraloom.evaluate.scoring import Scoring
from loraloom.recipe import LoraSettings
from loraloom.run.documents.comparison import Movement

REFERENCES = [f"遇到第{number}件事时，先停下来，再慢慢想。" for number in range(30)]
NUM_LABELS = [20] * 30


def scored(references: list[str]) -> Scoring:
    return Scoring(references, METRICS, {})


SCORING = scored(REFERENCES)


def answers(texts: list[str], loss: float) -> ModelAnswers:
    return ModelAnswers(texts, [len(text) for text in texts], [loss * 20] * len(texts))


MODELS = {
    "base": answers(["冷静"] * 30, 4.0),
    "good": answers([f"遇到第{number}件事时，先停下来。" for number in range(30)], 2.0),
    "idle": answers(["冷静"] * 30, 4.0),
}


GROUPS = {name: [name] for name in MODELS}


def sentence(name: str, total: float = 0.01) -> str:
    figures = comparison.figures(MODELS[name], MODELS["base"], SCORING, NUM_LABELS, 8)
    evidence = comparison.compute_evidence(MODELS, GROUPS, SCORING, NUM_LABELS)
    return conclusions.sentence(name, figures, [Movement(total, {})], evidence, "30 test rows")


def test_an_adapter_that_did_nothing_is_said_to_have_done_nothing() -> None:
    assert sentence("idle", 1e-8).startswith("idle did nothing: no answer differs")
    assert "too small for the precision of W" in sentence("idle", 1e-8)
    assert "‖ΔW‖ is 0.01 of ‖W‖" in sentence("idle", 0.01)


def test_a_better_adapter_is_said_to_be_better_with_its_interval_and_rows() -> None:
    text = sentence("good")
    assert text.startswith("good answers better than the base: chrF")
    assert "95 % interval" in text
    assert "30 test rows" in text
    assert "100 % of its answers differ" in text


def test_a_loss_that_is_clearly_lower_is_said_though_answers_say_nothing() -> None:
    """As of a base whose answers are all blank."""
    models = {
        "base": answers([""] * 30, 4.0),
        "same": answers([""] * 30, 2.0),
        "new": answers(["一"] * 30, 2.0),
    }
    evidence = comparison.compute_evidence(models, {name: [name] for name in models}, SCORING, NUM_LABELS)

    def said(name: str) -> str:
        figures = comparison.figures(models[name], models["base"], SCORING, NUM_LABELS, 8)
        alike = conclusions.alike([models[name].texts], num_questions=30)
        return conclusions.sentence(name, figures, [Movement(0.01, {})], evidence, "30 test rows", alike)

    lower = "although its loss on the references is significantly lower (2.000 against 4.000)"
    assert said("same") == (
        f"same changed no answer on 30 test rows, and all of its answers are blank, {lower} "
        "(‖ΔW‖ is 0.01 of ‖W‖)."
    )
    assert said("new").startswith(
        f"new shows no significant difference from the base in its answers, {lower}:"
    )
    assert "differ from the base's, and all of its answers are the same text (" in said("new")


def test_answers_to_one_question_may_be_alike() -> None:
    assert conclusions.alike([["a", "a"]], num_questions=1) == ""
    assert conclusions.alike([["a", "a"], ["a", "b"]], num_questions=2) == ""
    assert conclusions.alike([[" ", "a"]], num_questions=2) == ""


def test_losses_are_weighted_by_tokens_and_cut_answers_are_counted() -> None:
    uneven = ModelAnswers(["一", "二"], [8, 3], [80.0, 2.0])
    found = comparison.figures(uneven, uneven, scored(["一", "二"]), [40, 2], 8)
    assert found["eval_loss"] == pytest.approx(82 / 42)
    assert found["share_cut"] == 0.5
    assert found["exact_match"] == 1


def test_without_references_there_is_no_figure_that_needs_one() -> None:
    found = comparison.figures(MODELS["good"], MODELS["base"], None, [], 8)
    assert "chrf" not in found
    assert "eval_loss" not in found
    assert found["share_changed"] == 1


def test_the_ranking_leaves_out_the_base() -> None:
    assert conclusions.ranking(comparison.compute_evidence(MODELS, GROUPS, SCORING, NUM_LABELS)) == [
        "good",
        "idle",
    ]


def recommend(models: dict[str, ModelAnswers], sizes: dict[str, int]) -> tuple[str | None, str]:
    groups = {name: [name] for name in models}
    evidence = comparison.compute_evidence(models, groups, SCORING, NUM_LABELS)
    return conclusions.recommendation(evidence, sizes, "30 test rows")


def test_what_is_clearly_best_is_recommended() -> None:
    choice, why = recommend(MODELS, {"good": 100, "idle": 1})
    assert choice == "good"
    assert "significantly better than every other" in why


def test_of_equals_none_is_recommended_and_the_smallest_is_named() -> None:
    models = {**MODELS, "small": MODELS["good"]}
    del models["idle"]
    choice, why = recommend(models, {"good": 100, "small": 10})
    assert choice is None
    assert why.startswith("No configuration is better than another here: on 30 test rows")
    assert "better than the base is small" in why


def test_of_the_best_that_are_equal_the_smallest_is_recommended() -> None:
    choice, why = recommend({**MODELS, "small": MODELS["good"]}, {"good": 100, "idle": 1, "small": 10})
    assert choice == "small"
    assert "not significantly below the best" in why


def test_where_nothing_beats_the_base_nothing_is_recommended() -> None:
    models = {name: MODELS[name] for name in ("base", "idle")}
    assert recommend(models, {"idle": 1}) == (
        None,
        "No configuration answers better than the base on 30 test rows.",
    )


def test_seeds_of_one_experiment_are_one_group() -> None:
    models = {"base": MODELS["base"], "a@1": MODELS["good"], "a@2": MODELS["idle"]}
    groups = {"base": ["base"], "a": ["a@1", "a@2"]}
    evidence = comparison.compute_evidence(models, groups, SCORING, NUM_LABELS)
    told = comparison.group_records(evidence, groups)["a"]
    one, two = (
        comparison.figures(models[name], models["base"], SCORING, NUM_LABELS, 8)["chrf"]
        for name in groups["a"]
    )
    assert told.models == ["a@1", "a@2"]
    assert told.figures["chrf"].mean == pytest.approx((one + two) / 2)
    assert told.figures["chrf"].sd == pytest.approx(abs(one - two) / 2**0.5)
    assert evidence.pairs == []


def test_movement_is_the_norm_of_the_merged_update_over_that_of_the_weights(
    tiny: Callable[[str], Path],
) -> None:
    bank = AdapterBank(load_base(str(tiny("mt5"))))
    bank.attach("x", LoraSettings(r=3, lora_alpha=5, target_modules=["q", "wo"]), seed=1)
    for number, parameter in enumerate(bank.parameters("x")):
        parameter.data.normal_(generator=torch.Generator().manual_seed(number))
    moved = movement(bank, "x")
    assert set(moved.kinds) == {"encoder q", "decoder q", "cross q", "encoder wo", "decoder wo"}
    square_delta = square_weight = 0.0
    for name, part in bank.parts("x").items():
        linear = frozen_linear(bank.base.model.get_submodule(name).base)
        delta = part.delta(linear)
        assert part.delta_norm(linear) == pytest.approx(float(delta.norm()), rel=1e-5)
        square_delta += float(delta.norm()) ** 2
        square_weight += float(linear.dense().norm()) ** 2
    assert moved.total == pytest.approx((square_delta / square_weight) ** 0.5, rel=1e-5)


def test_a_fresh_adapter_has_not_moved(tiny: Callable[[str], Path]) -> None:
    bank = AdapterBank(load_base(str(tiny("mt5"))))
    bank.attach("x", LoraSettings(), seed=1)
    assert movement(bank, "x").total == 0

"""A metric that cannot be computed is reported before training, and refused if it selects a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from loraloom import Recipe
from loraloom.data.splitting.split import split_examples
from loraloom.errors import RecipeError
from loraloom.evaluate.metrics import METRICS
from loraloom.recipe.metric_names import SCORES, SelectionMetric
from loraloom.recipe.reading import parse_recipe
from loraloom.session.data_checks import check_data


def levels(folder: Path, language: str, metric: str) -> list[tuple[str, str]]:
    words = {"Thai": ("กิน", "ข้าว"), "English": ("eat", "rice and beans")}[language]
    rows = [{"instruction": f"{words[0]} {n}?", "response": f"{words[1]} {n}."} for n in range(8)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    document = {
        "model_name_or_path": "starter",
        "data": {"train": "rows.json", "eval": 3},
        "training": {"metric_for_best_model": metric},
    }
    recipe = Recipe.model_validate(document).in_folder(folder)
    findings = check_data(recipe, split_examples(recipe.data), ["metrics"]).findings
    return [(each.level, each.message) for each in findings if each.check == "metrics"]


@pytest.mark.parametrize(
    ("language", "metric", "expected"),
    [
        ("English", "bleu", []),
        ("Thai", "chrf", ["note"]),
        ("Thai", "bleu", ["error"]),
    ],
)
def test_a_missing_bleu_is_said(tmp_path: Path, language: str, metric: str, expected: list[str]) -> None:
    found = levels(tmp_path, language, metric)
    assert [level for level, _ in found] == expected
    assert all("sacrebleu has no tokenizer for Thai" in message for _, message in found)


def test_whatever_has_a_direction_can_select_a_checkpoint() -> None:
    assert {name for name, metric in METRICS.items() if metric.higher_is_better} == set(SCORES)
    assert get_args(SelectionMetric) == ("eval_loss", *SCORES)


def test_other_names_of_a_metric_are_understood() -> None:
    text = "model_name_or_path: starter\ndata: {{train: starter}}\nmetric_for_best_model: {}\n"
    for given, expected in (("eval_bleu", "bleu"), ("rougeL", "rouge_l"), ("eval_chrf", "chrf")):
        assert parse_recipe(text.format(given), name="recipe.yaml").training.metric_for_best_model == expected
    with pytest.raises(RecipeError, match="length_ratio"):
        parse_recipe(text.format("length_ratio"), name="recipe.yaml")

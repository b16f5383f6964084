"""Forgetting is measured on the best adapter, beside the base, and may fail an experiment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import Recipe
from loraloom.commands.train import Outcome, train
from loraloom.errors import RunError, TrainingError
from loraloom.training import held_out

ROWS = [{"instruction": f"如何处理{a}{b}", "response": f"先{b}再{a}"} for a in "朋友学校" for b in "压力心情"]
KNOWN = [{"instruction": "好", "response": "你好"}, {"instruction": "我", "response": "自己"}]


def write_rows(folder: Path) -> None:
    (folder / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (folder / "known.json").write_text(json.dumps(KNOWN), encoding="utf-8")


@pytest.fixture(scope="module")
def make_recipe(tiny: Callable[[str], Path]) -> Callable[..., Recipe]:
    def make(**training: Any) -> Recipe:
        return Recipe.model_validate(
            {
                "model_name_or_path": str(tiny("mt5")),
                "data": {"train": "rows.json", "eval": 2, "retain": "known.json"},
                "training": {"learning_rate": 3e-2, "num_train_epochs": 3, **training},
                "generation": {"max_new_tokens": 4},
            }
        )

    return make


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    write_rows(tmp_path)
    return make_recipe


@pytest.fixture(scope="module")
def trained(make_recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run beside its rows, which no test changes for good."""
    folder = tmp_path_factory.mktemp("trained")
    write_rows(folder)
    return train(make_recipe().in_folder(folder), out=folder / "run")


def test_it_is_the_rise_of_the_loss_on_the_retained_rows(trained: Outcome) -> None:
    from loraloom.commands.compare import compare

    told = trained.result.experiments["main"].forgetting
    figures = compare(trained.run.folder).models
    rise = figures["main"].figures["retain_loss"] - figures["base"].figures["retain_loss"]
    assert told == pytest.approx(rise, rel=1e-5)
    assert told != 0


def test_forgetting_more_than_allowed_fails_the_experiment(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = held_out.eval_losses

    def as_if_it_forgot(bank: Any, slots: Any, *rest: Any, **options: Any) -> Any:
        losses = real(bank, slots, *rest, **options)
        return {slot: loss + 5 * (slot is not None and None in slots) for slot, loss in losses.items()}

    monkeypatch.setattr(held_out, "eval_losses", as_if_it_forgot)
    with pytest.raises(TrainingError, match=r"the adapter forgets: the loss on data\.retain rose by"):
        train(recipe(max_forgetting=0.5).in_folder(tmp_path), out=tmp_path / "run")
    assert not (tmp_path / "run" / "adapters" / "main").exists()


def test_a_loss_on_the_retained_rows_that_is_not_finite_fails_the_experiment(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = held_out.eval_losses

    def spoilt(bank: Any, slots: Any, *rest: Any, **options: Any) -> Any:
        losses = real(bank, slots, *rest, **options)
        return {slot: math.nan if slot and None in slots else loss for slot, loss in losses.items()}

    monkeypatch.setattr(held_out, "eval_losses", spoilt)
    with pytest.raises(
        TrainingError, match=r"the loss on data\.retain is nan; its best adapter, from step \d+, is in"
    ):
        train(recipe().in_folder(tmp_path), out=tmp_path / "run")
    assert (tmp_path / "run" / "failed" / "main" / "adapter_model.safetensors").is_file()


def test_a_resume_with_other_retained_rows_is_refused(
    make_recipe: Callable[..., Recipe], trained: Outcome
) -> None:
    folder = trained.run.folder.parent
    (folder / "known.json").write_text(json.dumps(KNOWN[:1]), encoding="utf-8")
    try:
        with pytest.raises(RunError, match=r"data\.retain has changed"):
            train(make_recipe().in_folder(folder), resume=trained.run.folder)
    finally:
        write_rows(folder)


def test_a_limit_without_rows_to_measure_on_is_refused(recipe: Callable[..., Recipe]) -> None:
    values = recipe().model_dump()
    values["data"]["retain"] = None
    values["training"]["max_forgetting"] = 0.1
    with pytest.raises(ValueError, match=r"set data\.retain"):
        Recipe.model_validate(values)

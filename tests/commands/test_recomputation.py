"""Whether a base recomputes activations is the recipe's word, for everything that trains or measures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import load_base
from loraloom.base.recomputation import (
    keeping_activations,
    recompute_activations,
    recomputes_activations,
)
from loraloom.checks import overfitting
from loraloom.commands import find_lr
from loraloom.commands.check import examine
from loraloom.commands.find_lr import find_learning_rate
from loraloom.commands.train import train
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import Recipe
from loraloom.session.material import prepare
from loraloom.training import passes
from tests.commands.trained import ROWS


@pytest.fixture
def recipe_of(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[bool], Recipe]:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")

    def make(recomputes: bool) -> Recipe:
        training = {"max_steps": 2, "learning_rate": 1e-2, "gradient_checkpointing": recomputes}
        return Recipe.model_validate(
            {
                "model_name_or_path": str(tiny("mt5")),
                "data": {"train": str(tmp_path / "rows.json"), "eval": 4},
                "lora": {"r": 2},
                "training": training,
                "device": "cpu",
            }
        )

    return make


@pytest.fixture
def passes_seen(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the base recomputes, at each pass of a training step."""
    seen: list[bool] = []
    plain = passes.span_losses

    def watched(base: Any, *args: Any) -> Any:
        seen.append(recomputes_activations(base.model))
        return plain(base, *args)

    monkeypatch.setattr(passes, "span_losses", watched)
    return seen


def test_a_range_test_and_a_training_heed_it_and_the_rates_do_not_differ_by_it(
    recipe_of: Callable[[bool], Recipe],
    tmp_path: Path,
    passes_seen: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(find_lr, "NUM_STEPS", 8)
    losses = []
    for recomputes in (True, False):
        passes_seen.clear()
        found = find_learning_rate(recipe_of(recomputes), out=tmp_path / f"found-{recomputes}")
        train(recipe_of(recomputes), out=tmp_path / f"run-{recomputes}")
        assert len(passes_seen) >= 8 + 2
        assert set(passes_seen) == {recomputes}
        # Gradients that meet are summed in another order; above 3e-3 a few steps make that visible.
        losses.append([r.eval_loss for r in found.results if r.learning_rate <= 3e-3])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_checks_pass_under_it_and_say_the_same(
    recipe_of: Callable[[bool], Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfitting, "NUM_STEPS", 10)
    said = []
    for way in (True, False):
        checked = examine(recipe_of(way), deep=True)
        said.append({f.check: f.level for f in checked.findings if f.check != "resources"})
        assert "error" not in said[-1].values()
    assert said[0] == said[1]


def test_one_base_prepared_twice_is_as_the_later_recipe_says(recipe_of: Callable[[bool], Recipe]) -> None:
    recipe = recipe_of(True)
    split = split_examples(recipe.data)
    base = load_base(recipe.model_name_or_path, device="cpu")
    for way in (True, False, True):
        prepare(recipe_of(way), split, base)
        assert recomputes_activations(base.model) is way


def test_keeping_for_a_while_goes_back_to_what_was_set(tiny: Callable[[str], Path]) -> None:
    model = load_base(str(tiny("mt5")), device="cpu").model
    for way in (True, False):
        recompute_activations(model, way)
        with keeping_activations(model):
            assert not recomputes_activations(model)
        assert recomputes_activations(model) is way
    assert recomputes_activations(model) is False


def test_a_base_that_recomputed_is_as_it_was(tiny: Callable[[str], Path]) -> None:
    """No gradient goes down to the embeddings, neither while layers are recomputed nor afterwards."""
    model = load_base(str(tiny("mt5")), device="cpu").model
    for enabled in (True, False):
        recompute_activations(model, enabled)
        assert not model.get_input_embeddings()._forward_hooks
        assert not model.get_encoder()(input_ids=torch.tensor([[3, 4, 1]])).last_hidden_state.requires_grad

"""A micro-batch that is foreseen not to fit is computed in smaller passes from the first step on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.train import train
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Event, MemoryLimit, TrainingPlan, TrainStep
from tests.flows.conftest import RECIPE, rows, write_json


def test_it_is_the_same_training(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny("mt5"), tmp_path / "base")
    write_json(tmp_path / "data.json", rows())
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model="base"), encoding="utf-8")
    recipe = read_recipe(tmp_path / "recipe.yaml", ["training.max_steps=2", "experiments="])
    said: dict[str, list[Event]] = {"whole": [], "cut": []}
    train(recipe, out=tmp_path / "whole", report=said["whole"].append)
    monkeypatch.setattr("loraloom.commands.train.free_bytes", lambda device: 0)
    run = train(recipe, out=tmp_path / "cut", report=said["cut"].append).run

    choice = Provenance.read(run.provenance_file).choices["pass_limit"]
    assert int(choice.value) > 0
    assert "memory does not hold a whole micro-batch" in choice.reason
    (plan,) = (event for event in said["cut"] if isinstance(event, TrainingPlan))
    assert plan.choices["pass_limit"] == choice
    assert plan.plan is not None
    assert plan.plan.memory.pass_limit == int(choice.value)
    assert not [event for event in said["cut"] if isinstance(event, MemoryLimit)]  # none had to be found out
    losses = {name: [e.loss for e in own if isinstance(e, TrainStep)] for name, own in said.items()}
    assert len(losses["cut"]) == 2
    assert losses["cut"] == pytest.approx(losses["whole"], abs=1e-4)

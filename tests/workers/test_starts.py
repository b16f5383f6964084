"""Adapters that experiments start from come to a worker with the wave; their folders need not exist there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from loraloom.commands.train import train
from loraloom.recipe.reading import read_recipe
from loraloom.run.events import Event, TrainStep, read_event
from loraloom.session.locations import Relocation
from loraloom.training.checkpoint import state_files
from loraloom.training.state import TrainingState
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.worker_loop import train_wave
from loraloom.workers.worker_material import load_material
from tests.search.small import write_recipe_file


@pytest.mark.parametrize("of_all", [True, False])
def test_an_experiment_starts_from_the_adapter_of_its_wave(
    of_all: bool, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    file = write_recipe_file(tmp_path / "recipe", tiny("mt5"), training={"learning_rate": 1e-2})
    first = train(read_recipe(file), out=tmp_path / "first").run
    start = first.adapters / "main"
    document = json.loads(file.read_text(encoding="utf-8"))
    own = {"init_adapter": str(start)}
    document["training"] |= {"max_steps": 1}
    if of_all:
        document["lora"] |= own
    else:
        document["experiments"] = {"fresh": {}, "on": {"lora": own}}
    file.write_text(json.dumps(document), encoding="utf-8")
    said: list[Event] = []
    outcome = train(read_recipe(file), out=tmp_path / "run", report=said.append)
    expected = {event.experiment: event.loss for event in said if isinstance(event, TrainStep)}

    state, name = TrainingState.at_start(list(expected)), list(expected)[-1]
    tensors = load_file(start / "adapter_model.safetensors")
    state.tensors[name].current = {
        key.removeprefix("base_model.model.").replace(".weight", ""): value for key, value in tensors.items()
    }
    start.rename(tmp_path / "elsewhere")
    worker, told = load_material(outcome.run, Relocation()), list[WorkerMessage]()
    text = outcome.run.recipe_file.read_text(encoding="utf-8")
    train_wave(worker, Wave(1, text, dict(state_files(state))), told.append, lambda: False)
    events = [read_event(each.event) for each in told if each.kind == "event"]
    losses = {event.experiment: event.loss for event in events if isinstance(event, TrainStep)}
    assert losses == pytest.approx(expected, rel=1e-5)
    assert len({round(loss, 3) for loss in losses.values()}) == len(losses)

"""A training with rows in files: the adapters of one with rows in memory, and a resume without the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.train import train
from loraloom.errors import Interrupted
from loraloom.recipe import Recipe
from loraloom.run.events import Event, Note, TrainStep
from loraloom.run.folder import Run
from loraloom.training.signals import StopRequest
from tests.commands.trained import ROWS


@pytest.fixture
def recipe_of(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[str], Recipe]:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")

    def make(keep_rows: str) -> Recipe:
        return Recipe.model_validate(
            {
                "model_name_or_path": str(tiny("mt5")),
                "data": {"train": str(tmp_path / "rows.json"), "eval": 4, "keep_rows": keep_rows},
                "lora": {"r": 2},
                "training": {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 2},
                "device": "cpu",
            }
        )

    return make


def test_adapters_are_those_of_rows_in_memory_and_a_resume_reads_the_rows_again(
    recipe_of: Callable[[str], Recipe], tmp_path: Path
) -> None:
    in_memory = train(recipe_of("memory"), out=tmp_path / "memory").run
    stop, notes = StopRequest(), list[str]()

    def report(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 2:
            stop.stop()
        if isinstance(event, Note):
            notes.append(str(event.message))

    with pytest.raises(Interrupted):
        train(recipe_of("disk"), out=tmp_path / "disk", report=report, stop=stop)
    run = Run(tmp_path / "disk")
    assert "rows are kept in files, because data.keep_rows is disk" in notes
    choices = json.loads(run.provenance_file.read_text(encoding="utf-8"))["choices"]
    assert choices["rows"]["value"] == {"id": "in files of the run"}
    split = json.loads(run.split_file.read_text(encoding="utf-8"))
    assert split["train"] == []
    assert split["ranges"]["train"]
    shutil.rmtree(run.rows)
    train(recipe_of("disk"), resume=run.folder)
    adapters = [each.adapters / "main" / "adapter_model.safetensors" for each in (in_memory, run)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert len(list(run.rows.glob("tokens-*"))) == 2

"""A device that fails in the middle of training: it is said, and nothing is lost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.training import passes
from tests.commands.trained import ROWS

FAILING_PASS = 4


@pytest.fixture
def recipe(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    settings = {
        "model_name_or_path": str(tiny("mt5")),
        "data": {"train": "rows.json", "eval": 6, "max_target_length": 16},
        "lora": {"r": 4, "lora_dropout": 0.1},
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "eval_strategy": "no",
            "save_strategy": "steps",
            "save_steps": 2,
        },
        "device": "cpu",
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


def train(*words: Path | str) -> Any:
    return CliRunner().invoke(app, ["train", *map(str, words)])


def adapter_of(run: Path) -> bytes:
    return (run / "adapters" / "main" / "adapter_model.safetensors").read_bytes()


def test_a_lost_device_is_said_and_the_resume_ends_with_the_same_bytes(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(recipe, "--out", whole).exit_code == 0
    real, calls = passes.span_losses, itertools.count(1)

    def lost(base: Any, batch: Any, *smoothing: Any) -> Any:
        if next(calls) == FAILING_PASS:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for `cudaErrorX'")
        return real(base, batch, *smoothing)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "span_losses", lost)
        ended = train(recipe, "--out", run)
    assert ended.exit_code != 0
    said = f"{ended.stderr} {ended.exception}"
    assert "the device failed during training; existing checkpoints are unchanged" in said
    assert "CUDA error: unspecified launch failure" in said
    assert "Search for" not in said
    assert f"loraloom train --resume {run}" in said
    assert not (run / "adapters" / "main").exists()
    resumed = train(recipe, "--resume", run)
    assert resumed.exit_code == 0, resumed.output
    assert adapter_of(run) == adapter_of(whole)

"""Variants of LoRA in one bank: each equals itself alone, and a resume gives the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.recipe import Experiment
from loraloom.run.folder import Run
from loraloom.session.repair import is_exported
from loraloom.training.checkpoint import newest_valid
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all
from tests.parity.variants import VARIANTS

TRAIN = random_rows(11, seed=8)
STEPS, CUT = 8, 4
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 99}


def variant(name: str) -> Experiment:
    return experiment(
        name,
        lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, **VARIANTS[name]},
        seed=3,
        # A and B that start large, beside their twins, amplify the rounding of gradients: a neighbour's norms
        # change the order of sums, and at 2e-3 the losses of OLoRA by 1e-4.
        learning_rate=5e-4 if "init_lora_weights" in VARIANTS[name] else 2e-3,
        weight_decay=0.1,
        per_device_train_batch_size=3,
        max_steps=STEPS,
        **SAVED,
    )


def run(base: Base, folder: Path, names: Sequence[str], **options: Any) -> TrainedRun:
    return train_all(base, [variant(name) for name in names], TRAIN, folder, **SAVED, **options)


@pytest.fixture(scope="module")
def together(loaded: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedRun, Path]:
    """All of them in one bank, in one pass."""
    folder = tmp_path_factory.mktemp("together") / "run"
    return run(loaded("mt5"), folder, list(VARIANTS)), folder


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_equals_itself_alone(
    mt5: Base, together: tuple[TrainedRun, Path], name: str, tmp_path: Path
) -> None:
    alone = run(mt5, tmp_path / "alone", [name])
    losses = together[0].losses(name)
    assert len(losses) == STEPS
    assert losses == pytest.approx(alone.losses(name), rel=1e-4)
    for key, expected in alone.adapter(name).items():
        largest = float(expected.abs().max())
        assert largest > 1e-3  # it was trained
        torch.testing.assert_close(together[0].adapter(name)[key], expected, rtol=0, atol=1e-3 * largest)


def test_no_two_of_them_train_alike(together: tuple[TrainedRun, Path]) -> None:
    """The premise of the tests here."""
    assert len({tuple(together[0].losses(name)) for name in VARIANTS}) == len(VARIANTS)


def test_a_resume_gives_the_same_bits(mt5: Base, together: tuple[TrainedRun, Path], tmp_path: Path) -> None:
    whole, folder = together
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > CUT:
            shutil.rmtree(path)
    state, _ = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.tick == CUT
    resumed = run(mt5, tmp_path / "run", list(VARIANTS), state=state)
    for name in VARIANTS:
        assert resumed.losses(name) == whole.losses(name)[CUT:]
        for key, tensor in whole.adapter(name).items():
            assert torch.equal(resumed.adapter(name)[key], tensor), f"{name} {key}"
        assert is_exported(Run(tmp_path / "run"), resumed.state, variant(name))
        for file in (folder / "adapters" / name).iterdir():
            assert (tmp_path / "run" / "adapters" / name / file.name).read_bytes() == file.read_bytes()

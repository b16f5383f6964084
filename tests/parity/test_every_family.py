"""Every family trains as its own libraries would, in a bank as alone, in one go as resumed.

One training of two adapters serves all tests of a family. What these do not ask: `test_layouts.py` packs,
`test_objective.py` asks transformers for the loss, `test_generation.py` for answers, and
`tests/checks/test_gate.py` for the checks before training, `tests/forecast/test_plan.py` for its memory, and
`tests/commands/test_merge.py` merges, each of every family too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loraloom.base.loading import Base
from loraloom.recipe import GenerationSettings
from loraloom.training.checkpoint import newest_valid
from tests.families import KINDS
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all, unwrap
from tests.parity.stock_trainer import WITHOUT_DROPOUT, assert_same_as_stock
from tests.parity.test_bank_and_solo import assert_same_training
from tests.parity.test_resume import assert_bit_identical, of_interest

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
TRAIN, EVAL = random_rows(14, seed=5), random_rows(4, seed=6)
STEPS, CUT = 20, 10
SHARED: dict[str, Any] = {"save_strategy": "steps", "save_steps": CUT, "save_total_limit": 9}
# As the stock Trainer could train it: no dropout, never evaluated.
PLAIN = experiment("plain", **WITHOUT_DROPOUT, **SHARED)
OTHER = experiment(
    "other",
    lora={"r": 3, "lora_dropout": 0.2, "target_modules": ["q", "decoder:v"]},
    seed=2,
    learning_rate=2e-3,
    lr_scheduler_type="cosine",
    label_smoothing_factor=0.1,
    per_device_train_batch_size=2,
    gradient_accumulation_steps=2,
    max_steps=STEPS,
    metric_for_best_model="chrf",
    eval_strategy="steps",
    eval_steps=5,
    **SHARED,
)


@dataclass(frozen=True)
class Trained:
    """One family's training: its base, where its folder is, what came of it, and where."""

    base: Base
    model: Path
    run: TrainedRun
    folder: Path


def train(base: Base, folder: Path, *names: str, **options: Any) -> TrainedRun:
    wanted = [each for each in (PLAIN, OTHER) if each.name in (names or ("plain", "other"))]
    return train_all(
        base,
        wanted,
        TRAIN,
        folder,
        eval_set=EVAL,
        generation=GenerationSettings(max_new_tokens=3),
        **SHARED,
        **options,
    )


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest,
    loaded: Callable[[str], Base],
    tiny: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trained]:
    """Both adapters in one bank, with a checkpoint in the middle."""
    base, folder = loaded(request.param), tmp_path_factory.mktemp("every") / "run"
    yield Trained(base, tiny(request.param), train(base, folder), folder)
    unwrap(base)


def test_a_bank_of_two_is_two_adapters_alone(trained: Trained, tmp_path: Path) -> None:
    for name in ("plain", "other"):
        alone = train(trained.base, tmp_path / name, name)
        assert len(alone.losses(name)) == STEPS
        moved = [t.abs().max() for key, t in alone.adapter(name).items() if key.endswith("lora_B")]
        assert min(moved) > 1e-3  # every module was trained
        assert_same_training(trained.run, alone, name)


def test_it_is_trained_as_peft_and_the_stock_trainer_train_it(trained: Trained, tmp_path: Path) -> None:
    assert_same_as_stock(trained.run, trained.base, trained.model, PLAIN, TRAIN, tmp_path)


def test_a_resume_gives_the_same_bits(trained: Trained, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.folder, tmp_path / "run"))
    checkpoints = folder / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step-000010", "step-000020"]
    shutil.rmtree(checkpoints / "step-000020")
    shutil.rmtree(folder / "adapters")
    (folder / "adapters").mkdir()
    state, _ = newest_valid(checkpoints)
    assert state is not None
    assert state.tick == CUT
    resumed = train(trained.base, folder, state=state)
    assert of_interest(resumed.events) == of_interest([e for e in trained.run.events if e["step"] > CUT])
    assert_bit_identical(resumed, trained.run, folder, trained.folder)

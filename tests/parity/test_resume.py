"""A run that was cut and resumed equals one that never was, bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.errors import Interrupted
from loraloom.recipe import Experiment, GenerationSettings
from loraloom.training.checkpoint import newest_valid
from loraloom.training.signals import StopRequest
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all, unwrap

TRAIN, EVAL = random_rows(11, seed=5), random_rows(4, seed=6)
WAVES = [["brief", "long", "stopped"], ["later"]]
SHARED: dict[str, Any] = {
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 99,
    "base_dropout": 0.1,
}
# Of what a checkpoint decides; speeds and wall time are no part of it.
TIMELESS = (
    "event",
    "step",
    "experiment",
    "experiment_step",
    "loss",
    "learning_rate",
    "grad_norm",
    "eval_loss",
)


def experiments() -> list[Experiment]:
    """Ends at different steps, by different ways; `brief` targets what `long` does and leaves first."""
    each_step = {"eval_strategy": "steps", "eval_steps": 2, **{k: SHARED[k] for k in SHARED if "save" in k}}
    return [
        experiment(
            "brief",
            lora={"r": 2, "lora_dropout": 0.2, "target_modules": ["wo", "v"]},
            seed=1,
            max_steps=4,
            per_device_train_batch_size=3,
            **each_step,
        ),
        experiment(
            "long",
            lora={"r": 4, "lora_dropout": 0.1},
            seed=2,
            learning_rate=2e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.3,
            weight_decay=0.1,
            max_grad_norm=0.1,
            max_steps=10,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            metric_for_best_model="chrf",
            **each_step,
        ),
        experiment(
            "stopped",
            lora={"r": 3, "lora_dropout": 0.3, "target_modules": ["q", "k"]},
            seed=3,
            early_stopping_threshold=100,  # no improvement is enough
            max_steps=10,
            per_device_train_batch_size=4,
            early_stopping_patience=2,
            **each_step,
        ),
        experiment(
            "later",
            lora={"r": 5, "lora_dropout": 0.1, "target_modules": ["cross:all-linear"]},
            seed=4,
            max_steps=4,
            per_device_train_batch_size=4,
            **each_step,
        ),
    ]


def run(base: Base, folder: Path, **options: Any) -> TrainedRun:
    return train_all(
        base,
        experiments(),
        TRAIN,
        folder,
        waves=WAVES,
        eval_set=EVAL,
        generation=GenerationSettings(max_new_tokens=3),
        **SHARED,
        **options,
    )


def resume(base: Base, folder: Path) -> TrainedRun:
    state, verdicts = newest_valid(folder / "checkpoints")
    assert state is not None
    assert not any(verdict.problem for verdict in verdicts)
    return run(base, folder, state=state)


def of_interest(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: event[key] for key in TIMELESS if key in event} for event in events]


def assert_bit_identical(resumed: TrainedRun, whole: TrainedRun, folder: Path, whole_folder: Path) -> None:
    assert resumed.state.tick == whole.state.tick
    assert resumed.state.progress == whole.state.progress
    for name in whole.state.tensors:
        expected = whole.adapter(name)
        assert resumed.adapter(name).keys() == expected.keys()
        for key, tensor in resumed.adapter(name).items():
            assert torch.equal(tensor, expected[key]), f"{name} {key}"
        for file in (whole_folder / "adapters" / name).iterdir():
            assert (folder / "adapters" / name / file.name).read_bytes() == file.read_bytes()


@pytest.fixture(scope="module")
def whole(loaded: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedRun, Path]:
    """The uninterrupted run, with a checkpoint of every tick."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run(loaded("mt5"), folder), folder


def test_the_run_has_every_kind_of_end(whole: tuple[TrainedRun, Path]) -> None:
    """The premise of the tests here."""
    trained, folder = whole
    progress = trained.state.progress
    assert {name: p.status for name, p in progress.items()} == {
        "brief": "done",
        "long": "done",
        "stopped": "stopped",
        "later": "done",
    }
    assert 4 < progress["stopped"].step < 10
    assert progress["long"].best_step is not None
    assert trained.state.tick == 14
    assert len(list((folder / "checkpoints").iterdir())) == 14


# Before any end; just before and just after the first; after the early stop; in the second wave; at the end.
@pytest.mark.parametrize("tick", [1, 3, 4, 9, 10, 12, 14])
def test_a_resume_from_any_checkpoint_gives_the_same_bits(
    mt5: Base, whole: tuple[TrainedRun, Path], tick: int, tmp_path: Path
) -> None:
    uninterrupted, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > tick:
            shutil.rmtree(path)
    shutil.rmtree(tmp_path / "run" / "adapters")
    (tmp_path / "run" / "adapters").mkdir()
    resumed = resume(mt5, tmp_path / "run")
    later = [event for event in uninterrupted.events if event["step"] > tick]
    assert of_interest(resumed.events) == of_interest(later)
    for name, progress in resumed.state.progress.items():
        if not (tmp_path / "run" / "adapters" / name).exists():  # it had ended before the cut:
            assert progress.has_ended  # the workflow exports it from the checkpoint
            shutil.copytree(folder / "adapters" / name, tmp_path / "run" / "adapters" / name)
    assert_bit_identical(resumed, uninterrupted, tmp_path / "run", folder)


def test_a_signal_saves_and_the_resume_gives_the_same_bits(
    mt5: Base, whole: tuple[TrainedRun, Path], tmp_path: Path
) -> None:
    uninterrupted, folder = whole

    class StopsLater(StopRequest):
        calls = 0

        def __bool__(self) -> bool:
            self.calls += 1
            self.signal_number = 15 if self.calls > 8 else 0
            return self.signal_number != 0

    with pytest.raises(Interrupted) as caught:
        run(mt5, tmp_path / "run", stop=StopsLater())
    assert caught.value.signal_number == 15
    unwrap(mt5)  # the interrupted process is gone, and its bank with it
    resumed = resume(mt5, tmp_path / "run")
    assert resumed.events[0]["step"] > 1
    assert_bit_identical(resumed, uninterrupted, tmp_path / "run", folder)


def test_a_resume_goes_on_from_the_newest_whole_checkpoint_where_the_newest_is_damaged(
    mt5: Base, whole: tuple[TrainedRun, Path], tmp_path: Path
) -> None:
    uninterrupted, folder = whole
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > 6:
            file = path / "state.json"
            file.write_bytes(file.read_bytes().replace(b'"tick"', b'"tock"'))
    state, verdicts = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.tick == 6
    assert [bool(verdict.problem) for verdict in verdicts] == [True] * 8 + [False] * 6
    resumed = run(mt5, tmp_path / "run", state=state)
    assert_bit_identical(resumed, uninterrupted, tmp_path / "run", folder)

"""One adapter among seven different neighbours equals itself alone, whatever becomes of them.

Longer than `test_bank_and_solo.py` and with dropout on: 30 steps, in which neighbours end one after the
other, a wave boundary is crossed, and the training is cut in the middle of a wave and resumed.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base
from loraloom.data.ownership import Draws
from loraloom.recipe import Experiment
from loraloom.training.checkpoint import newest_valid
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all, unwrap

TRAIN = random_rows(23, seed=8)
STEPS = 30
CUT = 20  # of the ticks, 7 of them the first wave's
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5}

WATCHED = experiment(
    "watched",
    lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1},
    seed=11,
    learning_rate=2e-3,
    per_device_train_batch_size=3,
    max_steps=STEPS,
    **SAVED,
)


def neighbours() -> list[Experiment]:
    """Seven that differ from the watched one and from each other in all that may differ."""
    targets: list[Any] = ["all-linear", ["q", "v"], ["wo"], ["cross:all-linear"], ["encoder:q", "k"]]
    schedules = ["linear", "cosine", "constant"]
    return [
        experiment(
            f"n{number}",
            lora={
                "r": 2 + number,
                "lora_alpha": 16,
                "lora_dropout": 0.05 * number,
                "use_rslora": number % 2 == 0,
                "target_modules": targets[number % len(targets)],
            },
            seed=11 + number // 3,  # some share the watched one's seed
            learning_rate=1e-3 * (1 + number),
            lr_scheduler_type=schedules[number % len(schedules)],
            per_device_train_batch_size=1 + number % 4,
            gradient_accumulation_steps=1 + number % 2,
            max_steps=4 * number + 3,
            **SAVED,
        )
        for number in range(7)
    ]


def middle_of(experiments: list[Experiment]) -> list[Experiment]:
    """The watched one with neighbours on both sides of it."""
    return [*experiments[:3], WATCHED, *experiments[3:]]


def assert_as_alone(together: TrainedRun, alone: TrainedRun) -> None:
    losses = together.losses("watched")
    assert len(losses) == STEPS
    assert losses == pytest.approx(alone.losses("watched"), rel=1e-4)
    assert losses[-1] < losses[0]
    for key, expected in alone.adapter("watched").items():
        largest = float(expected.abs().max())
        assert largest > 1e-3  # it was trained
        torch.testing.assert_close(together.adapter("watched")[key], expected, rtol=0, atol=1e-3 * largest)


@pytest.fixture(scope="module")
def alone(loaded: Callable[[str], Base], tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    run = train_all(loaded("mt5"), [WATCHED], TRAIN, tmp_path_factory.mktemp("alone") / "run")
    unwrap(loaded("mt5"))
    return run


@pytest.fixture(scope="module")
def in_waves(
    loaded: Callable[[str], Base], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainedRun, Path]:
    """The watched one in the second of three waves, with every checkpoint, and where."""
    folder = tmp_path_factory.mktemp("waves") / "run"
    return run_in_waves(loaded("mt5"), folder), folder


def run_in_waves(base: Base, folder: Path, **options: Any) -> TrainedRun:
    own = middle_of(neighbours())
    names = [e.name for e in own]
    waves = [names[:2], names[2:6], names[6:]]
    return train_all(base, own, TRAIN, folder, waves=waves, save_total_limit=99, **options)


def test_among_seven_that_end_before_it(mt5: Base, alone: TrainedRun, tmp_path: Path) -> None:
    together = train_all(mt5, middle_of(neighbours()), TRAIN, tmp_path / "run")
    ends = [e["step"] for e in together.events if e["event"] == "end"]
    assert len(set(ends)) == 8  # each at another tick
    assert_as_alone(together, alone)


def test_across_a_wave_boundary(alone: TrainedRun, in_waves: tuple[TrainedRun, Path]) -> None:
    assert_as_alone(in_waves[0], alone)


def test_across_a_resume_in_the_middle_of_the_second_wave(
    mt5: Base, in_waves: tuple[TrainedRun, Path], tmp_path: Path
) -> None:
    whole, folder = in_waves
    shutil.copytree(folder, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > CUT:
            shutil.rmtree(path)
    state, _ = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    before = state.progress["watched"].step
    assert 0 < before < STEPS
    assert state.progress["n0"].has_ended
    assert not state.progress["n3"].has_ended  # of its own wave
    assert state.progress["n6"].step == 0  # of the third
    resumed = run_in_waves(mt5, tmp_path / "run", state=state)
    assert resumed.losses("watched") == whole.losses("watched")[before:]
    for name in whole.state.tensors:
        for key, tensor in whole.adapter(name).items():
            assert torch.equal(resumed.adapter(name)[key], tensor), f"{name} {key}"


def test_another_experiment_changes_no_order_no_initial_weight_and_no_mask(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly: these are drawn, not computed."""
    drawn: dict[tuple[str, str, int, int], list[Any]] = defaultdict(list)
    draw = Draws.kept

    def recorded(draws: Draws, slot: str, module: str, side: Any, *args: Any, **kwargs: Any) -> Any:
        mask = draw(draws, slot, module, side, *args, **kwargs)
        # By the rows of the step in their order, wherever they lie in the batch.
        examples = [
            mask[each.row, each.start : each.start + each.length].tolist()
            for each in draws.segments[side][slot]
        ]
        drawn[slot, module, draws.steps[slot], draws.micro_batch].append(examples)
        return mask

    monkeypatch.setattr(Draws, "kept", recorded)
    own = experiment("own", lora={"r": 8, "lora_dropout": 0.1}, seed=3, max_steps=3)
    alone = train_all(mt5, [own], TRAIN, tmp_path / "alone")
    without = dict(drawn)
    drawn.clear()
    before = experiment("before", lora={"r": 2, "lora_dropout": 0.5}, seed=3, max_steps=2)
    after = experiment("after", lora={"r": 3, "target_modules": ["q"]}, seed=4, max_steps=3)
    among = train_all(mt5, [before, own, after], TRAIN, tmp_path / "bank")
    beside = {key: each for key, each in drawn.items() if key[0] == "own"}
    assert len(without) > 50
    assert beside == without
    assert among.losses("own") == pytest.approx(alone.losses("own"), rel=1e-5)

    started = []
    for others in ([], [before, after]):
        bank = AdapterBank(mt5)
        for each in (*others, own):
            bank.attach(each.name, each.lora, each.seed)
        started.append(bank.tensors("own"))
        unwrap(mt5)
    assert started[0].keys() == started[1].keys()
    assert all(torch.equal(tensor, started[1][key]) for key, tensor in started[0].items())

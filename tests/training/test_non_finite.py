"""NaN and Inf in loss, gradient, weight and evaluation of one experiment among four."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import Base
from loraloom.data.timetable import Timetable
from loraloom.recipe import Experiment
from loraloom.run.folder import Run
from loraloom.training import engine, held_out, loop, passes
from loraloom.training.engine import Engine
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all

TRAIN, EVAL = random_rows(12, seed=5), random_rows(4, seed=6)
NAMES = ("a", "b", "c", "d")
FAILING_STEP = 3
EACH_STEP = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 2}


def four(*, steps_of_b: int = 5) -> list[Experiment]:
    return [
        experiment(
            name,
            lora={"r": 2 + number, "target_modules": ["q", "v"]},
            seed=number,
            per_device_train_batch_size=2,
            lr_scheduler_type="constant",
            max_steps=steps_of_b if name == "b" else 5,
            **EACH_STEP,
        )
        for number, name in enumerate(NAMES)
    ]


def train(base: Base, folder: Path, experiments: list[Experiment]) -> TrainedRun:
    return train_all(base, experiments, TRAIN, folder, eval_set=EVAL, packing=False, **EACH_STEP)


def poison_loss(patch: pytest.MonkeyPatch, value: float) -> None:
    real, calls = passes.span_losses, iter(range(1, 99))

    def losses(base: Base, batch: Any, *smoothing: Any) -> Any:
        found = real(base, batch, *smoothing)
        factor = torch.ones_like(found)
        if next(calls) == FAILING_STEP:
            factor[batch.slots.index("b")] = value
        return found * factor

    patch.setattr(passes, "span_losses", losses)


def poison_gradient(patch: pytest.MonkeyPatch, value: float) -> None:
    real, calls = loop.step_losses, iter(range(1, 99))

    def losses(training: Engine, *rest: Any) -> Any:
        found = real(training, *rest)
        if next(calls) == FAILING_STEP:
            training.bank.parameters("b")[0].grad[0, 0] = value
        return found

    patch.setattr(loop, "step_losses", losses)


def poison_weight(patch: pytest.MonkeyPatch, value: float) -> None:
    real, calls = engine.make_optimizer, iter(NAMES)

    def make(parameters: Any, settings: Any) -> Any:
        optimizer, steps = real(parameters, settings), iter(range(1, 99))
        if next(calls) == "b":

            def poison(*_: Any) -> None:
                if next(steps) == FAILING_STEP:
                    with torch.no_grad():
                        optimizer.parameters[0][1][1][0, 0] = value

            optimizer.register_step_post_hook(poison)
        return optimizer

    patch.setattr(engine, "make_optimizer", make)


def poison_eval(patch: pytest.MonkeyPatch, value: float) -> None:
    real, calls = held_out.eval_losses, iter(range(1, 99))

    def losses(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        return {**found, "b": value} if next(calls) == FAILING_STEP else found

    patch.setattr(held_out, "eval_losses", losses)


POISONS: dict[str, Callable[[pytest.MonkeyPatch, float], None]] = {
    "loss": poison_loss,
    "gradient": poison_gradient,
    "weight": poison_weight,
    "eval": poison_eval,
}


@pytest.fixture(scope="module")
def healthy(loaded: Callable[[str], Base], tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """In which `b` has as many steps as it has finite ones beside the others."""
    folder = tmp_path_factory.mktemp("healthy") / "run"
    return train(loaded("mt5"), folder, four(steps_of_b=FAILING_STEP - 1))


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", POISONS)
def test_it_stops_within_the_step_and_the_others_go_on(
    where: str,
    value: float,
    mt5: Base,
    healthy: TrainedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        POISONS[where](patch, value)
        trained = train(mt5, tmp_path / "run", four())
    progress = trained.state.progress["b"]
    steps = FAILING_STEP if where == "eval" else FAILING_STEP - 1
    assert (progress.status, progress.step) == ("failed", steps)
    assert len(trained.losses("b")) == steps
    (end,) = (e for e in trained.events if e["event"] == "end" and e["experiment"] == "b")
    assert (end["status"], end["step"]) == ("failed", FAILING_STEP)
    if where == "eval":
        assert f"eval_loss is {value} after step {FAILING_STEP}" in progress.reason
    else:
        (rows,) = Timetable(four()[1], len(TRAIN)).micro_batches(FAILING_STEP - 1)
        numbers = ", ".join(str(row + 1) for row in rows)
        assert f"at step {FAILING_STEP} (training rows {numbers})" in progress.reason
    assert_kept(tmp_path / "run", trained, healthy)
    for name in ("a", "c", "d"):
        assert trained.state.progress[name].status == "done"
        assert trained.losses(name) == pytest.approx(healthy.losses(name), rel=1e-5)
    assert sorted(path.name for path in (tmp_path / "run" / "adapters").iterdir()) == ["a", "c", "d"]


def assert_kept(folder: Path, trained: TrainedRun, healthy: TrainedRun) -> None:
    """Its best finite state is the healthy run's to the bit, is in its own folder, and the reason says so."""
    assert trained.state.progress["b"].best_step == healthy.state.progress["b"].best_step
    assert trained.state.progress["b"].reason.endswith(
        f"; its best adapter, from step {trained.state.progress['b'].best_step}, is in failed/b"
    )
    kept = read_adapter(Run(folder).failed / "b")
    assert kept.origin["status"] == "failed"
    assert (kept.folder / "README.md").read_text(encoding="utf-8").startswith("# b failed\n")
    for key, tensor in healthy.adapter("b").items():
        assert torch.equal(trained.adapter("b")[key], tensor)
        assert torch.equal(kept.tensors[key], tensor)


def test_what_fails_at_its_first_step_has_learnt_nothing_that_is_worth_a_folder(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.training.test_non_finite.FAILING_STEP", 1)
    poison_gradient(monkeypatch, math.nan)
    trained = train(mt5, tmp_path / "run", four())
    assert trained.state.progress["b"].reason.endswith("the weights are unchanged by this step")
    assert not Run(tmp_path / "run").failed.exists()

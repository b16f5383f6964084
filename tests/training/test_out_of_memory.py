"""An experiment that memory does not hold fails alone, if it is its own fault; otherwise nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.distributed.ranks import Ranks
from loraloom.errors import TrainingError
from loraloom.recipe import Experiment
from loraloom.run.events import MemoryLimit
from loraloom.training import engine, passes
from loraloom.training.checkpoint import newest_valid
from loraloom.training.optimizer import AdapterAdamW
from loraloom.training.state import Limits, TrainingState
from tests.parity import rig

TRAIN = rig.random_rows(12, seed=1)
SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 99}


def experiments(*names: str) -> list[Experiment]:
    options = {"lora": {"lora_dropout": 0.2}, "per_device_train_batch_size": 3, "max_steps": 4, **SAVING}
    return [rig.experiment(name, **options) for name in names]


def train(base: Base, folder: Path, *names: str, **options: Any) -> rig.TrainedRun:
    return rig.train_all(base, experiments(*names), TRAIN, folder, **{**SAVING, **options})


def memory_holds(
    monkeypatch: pytest.MonkeyPatch, allowed: Callable[[tuple[str, ...], int], bool]
) -> list[tuple[str, ...]]:
    """Passes go through where `allowed(slots, rows)` says so; gives the slots of all that are tried."""
    real, tried = passes.span_losses, []

    def losses(base: Base, batch: Any, *smoothing: Any) -> Any:
        tried.append(batch.slots)
        if not allowed(batch.slots, int((batch.source_segments.amax(1)).sum())):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(base, batch, *smoothing)

    monkeypatch.setattr(passes, "span_losses", losses)
    return tried


def assert_same_adapter(found: rig.TrainedRun, expected: rig.TrainedRun, name: str) -> None:
    assert found.losses(name) == pytest.approx(expected.losses(name), rel=1e-5)
    for key, tensor in found.adapter(name).items():
        torch.testing.assert_close(tensor, expected.adapter(name)[key], rtol=1e-4, atol=1e-5)


def without(slot: str) -> Callable[[tuple[str, ...], int], bool]:
    return lambda slots, num_rows: slot not in slots


def test_an_experiment_whose_rows_fit_beside_the_others_adapters_only_fails_alone(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(mt5, tmp_path / "whole", "light", "other")
    tried = memory_holds(monkeypatch, without("heavy"))
    found = train(mt5, tmp_path / "run", "light", "heavy", "other")
    progress = found.state.progress["heavy"]
    assert (progress.status, progress.step) == ("failed", 0)
    assert "out of memory at step 1: training row " in progress.reason
    assert "fits with another adapter, but not with this one" in progress.reason
    for name in ("light", "other"):
        assert found.state.progress[name].status == "done"
        assert_same_adapter(found, whole, name)
    # What the heavy one made narrow is wide again: the others share their passes as before.
    assert tried[-1] == ("light", "other")
    assert found.state.limits_at(99) == Limits()
    assert [e["phase"] for e in found.events if e["event"] == "memory"][-1] == "lifted"


def test_a_resume_repeats_what_others_did_after_one_has_failed(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_holds(monkeypatch, without("heavy"))
    whole = train(mt5, tmp_path / "run", "light", "heavy", "other")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-")) > 2:
            shutil.rmtree(path)
    state, _ = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state.tick == 2
    state.replay(whole.history)
    resumed = train(mt5, tmp_path / "run", "light", "heavy", "other", state=state)
    assert resumed.state.progress["heavy"].status == "failed"
    for name in ("light", "other"):
        assert resumed.losses(name) == whole.losses(name)[2:]
        for key, tensor in resumed.adapter(name).items():
            assert torch.equal(tensor, whole.adapter(name)[key])


def test_rows_that_fit_beside_no_adapter_are_no_experiments_fault(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory of the machine is short: what was trained stays as it is, and a resume goes on."""
    steps = iter(range(99))
    memory_holds(monkeypatch, lambda slots, num_rows: next(steps) < 2)
    with pytest.raises(TrainingError, match=r"even one row at a time.*training row \d+, \d+ tokens"):
        train(mt5, tmp_path / "run", "a", "b")
    state, _ = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert {progress.status for progress in state.progress.values()} == {"training"}


def test_of_several_waves_one_that_does_not_fit_fails_and_the_next_begins(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_holds(monkeypatch, without("heavy"))
    found = train(mt5, tmp_path / "run", "heavy", "light", waves=[["heavy"], ["light"]])
    assert found.state.progress["heavy"].status == "failed"
    assert "does not fit" in found.state.progress["heavy"].reason
    assert found.state.progress["light"].status == "done"


def test_a_single_experiment_does_not_fail_but_can_go_on_where_there_is_more_memory(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_holds(monkeypatch, without("heavy"))
    with pytest.raises(TrainingError, match="even one row at a time"):
        train(mt5, tmp_path / "run", "heavy")


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_an_adapter_that_cannot_be_attached_fails_alone(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    real = engine.make_optimizer

    def make(parameters: Any, settings: Any) -> Any:
        if settings.learning_rate == 0.5:
            raise error("no room")
        return real(parameters, settings)

    monkeypatch.setattr(engine, "make_optimizer", make)
    heavy = rig.experiment("heavy", learning_rate=0.5, max_steps=2)
    light = rig.experiment("light", max_steps=2)
    found = rig.train_all(mt5, [heavy, light], TRAIN, tmp_path / "run")
    assert found.state.progress["heavy"].reason == "out of memory: its adapter is too large"
    assert [e["status"] for e in found.events if e["event"] == "end"] == ["failed", "done"]
    with pytest.raises(error):
        rig.train_all(mt5, [heavy], TRAIN, tmp_path / "alone")


def test_an_optimizer_whose_state_memory_does_not_hold_fails_alone(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AdapterAdamW.step

    def step(self: AdapterAdamW, *args: Any) -> Any:
        if self.param_groups[0]["weight_decay"] == 0.25:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, *args)

    monkeypatch.setattr(AdapterAdamW, "step", step)
    heavy = rig.experiment("heavy", weight_decay=0.25, max_steps=2)
    light = rig.experiment("light", max_steps=2)
    found = rig.train_all(mt5, [heavy, light], TRAIN, tmp_path / "run")
    assert "out of memory while its weights were updated at step 1" in found.state.progress["heavy"].reason
    assert found.state.progress["light"].status == "done"
    monkeypatch.setattr(Ranks, "size", 2)  # on the other one it might have fitted
    with pytest.raises(torch.OutOfMemoryError):
        rig.train_all(mt5, [heavy, light], TRAIN, tmp_path / "shared")


def test_limits_of_one_experiment_are_lifted_and_those_of_evaluation_are_kept() -> None:
    state = TrainingState.at_start(["a"])
    state.narrow(2, Limits(pass_tokens=90))
    state.replay(
        [
            MemoryLimit(step=5, phase="training", tried=20, pass_tokens=10, eval_rows=4),
            MemoryLimit(step=5, phase="lifted", experiment="a", tried=10, pass_tokens=90, eval_rows=4),
        ]
    )
    assert state.limits_at(5) == Limits(pass_tokens=90, eval_rows=4)

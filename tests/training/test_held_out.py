"""Held-out rows are measured as many at once as memory holds, and given up when a signal comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.errors import Interrupted, TrainingError
from loraloom.recipe import GenerationSettings
from loraloom.training import held_out
from loraloom.training.checkpoint import newest_valid
from loraloom.training.signals import StopRequest
from loraloom.training.state import Limits
from tests.parity import rig

TRAIN, EVAL = rig.random_rows(12, seed=1), rig.random_rows(5, seed=2)


SAVING = {"save_strategy": "steps", "save_steps": 4}
JUDGED: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "metric_for_best_model": "chrf",
    **SAVING,
}


def judged(base: Base, folder: Path, **options: Any) -> rig.TrainedRun:
    experiments = [rig.experiment(name, seed=n, max_steps=4, **JUDGED) for n, name in enumerate("abc")]
    return rig.train_all(
        base,
        experiments,
        TRAIN,
        folder,
        eval_set=EVAL,
        generation=GenerationSettings(max_new_tokens=3),
        per_device_eval_batch_size=4,
        **{**SAVING, **options},
    )


@pytest.fixture(scope="module")
def expected(loaded: Callable[[str], Base], tmp_path_factory: pytest.TempPathFactory) -> rig.TrainedRun:
    """With memory enough, and without a signal."""
    return judged(loaded("mt5"), tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("what", ["eval_losses", "answer"])
@pytest.mark.parametrize("most_rows", [5, 2, 1])
def test_an_evaluation_that_does_not_fit_takes_fewer_rows_at_once(
    mt5: Base,
    expected: rig.TrainedRun,
    what: str,
    most_rows: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fewer than there are adapters even: then they are evaluated one after the other."""
    real = getattr(held_out, what)

    def tight(bank: Any, slots: Sequence[str], examples: Any, *rest: Any, **options: Any) -> Any:
        batch_size = options.get("batch_size") or rest[0].batch_size
        if len(slots) * batch_size > most_rows:
            raise torch.OutOfMemoryError
        return real(bank, slots, examples, *rest, **options)

    monkeypatch.setattr(held_out, what, tight)
    found = judged(mt5, tmp_path / "run")
    for name in "abc":
        for key in ("eval_loss", "chrf"):
            assert found.column(name, key, "eval") == pytest.approx(
                expected.column(name, key, "eval"), rel=1e-6
            )
    told = [event for event in found.events if event["event"] == "memory"]
    assert {(event["phase"], event["step"]) for event in told} == {("evaluation", 2)}
    assert 0 < told[-1]["eval_rows"] <= most_rows
    assert found.state.limits_at(4) == Limits(eval_rows=told[-1]["eval_rows"])
    assert found.losses("a") == expected.losses("a")


def test_an_evaluation_of_which_one_row_is_too_much_is_said(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(held_out, "eval_losses", never)
    with pytest.raises(TrainingError, match=r"evaluate a single row.*max_source_length"):
        judged(mt5, tmp_path / "run")


def test_an_evaluation_over_a_divided_base_is_not_started_over(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ranks may be in the middle of it, and wait for the layers of this one."""
    calls = []

    def tight(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(held_out, "eval_losses", tight)
    with pytest.raises(TrainingError, match=r"divided base.*per_device_eval_batch_size"):
        judged(replace(mt5, is_sharded=True), tmp_path / "run")
    assert len(calls) == 1


@pytest.mark.parametrize("what", ["eval_losses", "answer"])
def test_a_signal_does_not_wait_for_an_evaluation_and_the_resume_makes_it_anew(
    mt5: Base, expected: rig.TrainedRun, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, real = StopRequest(), getattr(held_out, what)

    def signalled(*args: Any, **options: Any) -> Any:
        stop.signal_number = 15
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(held_out, what, signalled)
        with pytest.raises(Interrupted):
            judged(mt5, tmp_path / "run", stop=stop)
    rig.unwrap(mt5)
    state, _ = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert (state.tick, state.unfinished) == (2, ["a", "b", "c"])
    resumed = judged(mt5, tmp_path / "run", state=state)
    assert resumed.state.progress == expected.state.progress
    for name in "abc":
        assert resumed.column(name, "eval_loss", "eval") == expected.column(name, "eval_loss", "eval")
        for key, tensor in resumed.adapter(name).items():
            assert torch.equal(tensor, expected.adapter(name)[key])

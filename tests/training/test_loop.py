"""The loop: who fails, who stops, what is kept as best, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import Base
from loraloom.data.timetable import Timetable
from loraloom.errors import CheckpointError
from loraloom.recipe import Experiment, GenerationSettings
from loraloom.training import evaluation, held_out, loop
from loraloom.training.checkpoint import newest_valid
from loraloom.training.engine import Engine
from tests.parity.rig import TrainedRun, experiment, random_rows, speaking_tensors, train_all

TRAIN, EVAL = random_rows(12, seed=5), random_rows(4, seed=6)
SMALL: dict[str, Any] = {"r": 2, "lora_dropout": 0.0, "target_modules": ["q", "v"]}


def three(**changes: dict[str, Any]) -> list[Experiment]:
    return [
        experiment(
            name,
            lora={**SMALL, "r": 2 + number},
            seed=number,
            per_device_train_batch_size=2,
            **{"max_steps": 6, **changes.get(name, {})},
        )
        for number, name in enumerate(("a", "b", "c"))
    ]


def assert_untouched(trained: TrainedRun, alone: TrainedRun, name: str) -> None:
    assert trained.losses(name) == pytest.approx(alone.losses(name), rel=1e-5)
    assert trained.state.progress[name].status == "done"


@pytest.fixture(scope="module")
def alone(loaded: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainedRun]:
    """The neighbours of `b`, each as it trains by itself."""
    folder, (a, _, c) = tmp_path_factory.mktemp("alone"), three()
    one = [train_all(loaded("mt5"), [each], TRAIN, folder / each.name, packing=False) for each in (a, c)]
    return dict(zip("ac", one, strict=True))


@pytest.mark.parametrize("poison", ["nan", "inf"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_experiment_whose_loss_is_not_finite_fails_before_its_weights_change_and_alone(
    mt5: Base, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: str, accumulation: int
) -> None:
    """Poisoned after its third step; its neighbours go on as if it had never been there."""
    all_three = three(b={"gradient_accumulation_steps": accumulation})
    gradients = loop._gradients

    def poisoning(engine: Engine, trainees: Any) -> Any:
        if any(t.name == "b" and t.progress.step == 3 for t in trainees):
            with torch.no_grad():
                engine.bank.parameters("b")[0][0, 0] = float(poison)
        return gradients(engine, trainees)

    monkeypatch.setattr(loop, "_gradients", poisoning)
    trained = train_all(mt5, all_three, TRAIN, tmp_path / "bank", packing=False)
    progress = trained.state.progress["b"]
    assert (progress.status, progress.step) == ("failed", 3)
    assert "at step 4" in progress.reason
    rows = Timetable(all_three[1], len(TRAIN)).micro_batches(3)
    assert f"training rows {', '.join(str(row + 1) for own in rows for row in own)})" in progress.reason
    assert len(trained.losses("b")) == 3
    assert trained.adapter("b") == {}  # what is not finite is kept nowhere
    assert not (tmp_path / "bank" / "failed").exists()
    (end,) = (e for e in trained.events if e["event"] == "end" and e["experiment"] == "b")
    assert (end["status"], end["step"], end["experiment_step"]) == ("failed", 4, 3)
    assert sorted(path.name for path in (tmp_path / "bank" / "adapters").iterdir()) == ["a", "c"]
    monkeypatch.undo()
    for name in ("a", "c"):
        assert_untouched(trained, alone[name], name)


def test_a_gradient_that_is_not_finite_fails_too(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = loop.gradient_norm
    calls: list[int] = []

    def infinite(parameters: Any) -> Tensor:
        calls.append(1)
        return torch.tensor(torch.inf) if len(calls) == 5 else norm(parameters)  # b's of the second step

    monkeypatch.setattr(loop, "gradient_norm", infinite)
    trained = train_all(mt5, three(), TRAIN, tmp_path / "run")
    assert {n: (p.status, p.step) for n, p in trained.state.progress.items()} == {
        "a": ("done", 6),
        "b": ("failed", 1),
        "c": ("done", 6),
    }
    assert "gradient norm inf" in trained.state.progress["b"].reason


def test_an_evaluation_that_is_not_finite_fails_and_keeps_the_best_before(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = held_out.eval_losses

    def spoilt(bank: AdapterBank, slots: Any, *args: Any, **kwargs: Any) -> Any:
        found = losses(bank, slots, *args, **kwargs)
        return {**found, "b": torch.nan} if seen.append(1) or len(seen) == 3 else found

    seen: list[int] = []
    monkeypatch.setattr(held_out, "eval_losses", spoilt)
    each = {"eval_strategy": "steps", "eval_steps": 1}
    trained = train_all(mt5, three(a=each, b=each, c=each), TRAIN, tmp_path / "run", eval_set=EVAL)
    progress = trained.state.progress["b"]
    assert (progress.status, progress.step, progress.best_step) == ("failed", 3, 2)
    assert trained.state.progress["a"].status == trained.state.progress["c"].status == "done"


def test_when_all_fail_training_ends_and_every_linear_is_itself_again(mt5: Base, tmp_path: Path) -> None:
    diverging = [
        experiment("a", lora=SMALL, learning_rate=10.0, max_steps=400, per_device_train_batch_size=2)
    ]
    bank = AdapterBank(mt5)
    tensors = speaking_tensors(bank, diverging[0].lora, seed=1)
    next(iter(tensors.values())).view(-1)[0] = 1e38  # finite, but not what comes of it
    trained = train_all(mt5, diverging, TRAIN, tmp_path / "run", initial={"a": tensors})
    assert trained.state.progress["a"].status == "failed"
    assert trained.state.has_ended
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())
    assert list((tmp_path / "run" / "adapters").iterdir()) == []


def with_metrics(monkeypatch: pytest.MonkeyPatch, figures: dict[str, list[float]]) -> None:
    """Let evaluations give these eval losses, one after the other."""
    left = {name: list(values) for name, values in figures.items()}
    monkeypatch.setattr(
        held_out,
        "eval_losses",
        lambda bank, slots, *args, **kwargs: {slot: left[slot].pop(0) for slot in slots},
    )


EACH_STEP: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1, "max_steps": 8}


@pytest.mark.parametrize(
    ("values", "patience", "threshold", "stops_at", "best_step"),
    [
        ([5, 4, 3, 2, 1, 0.9, 0.8, 0.7], 1, 0.0, None, 8),  # always better
        ([5, 4, 4.5, 4.4, 4.3, 1, 1, 1], 3, 0.0, 5, 2),  # three in a row that are no better
        ([5, 4, 4.5, 4.4, 3, 3.1, 3.2, 1], 3, 0.0, None, 8),  # never three in a row
        ([5, 5, 5, 5, 5, 5, 5, 5], 2, 0.0, 3, 1),  # equal is no better
        ([5, 4.95, 4.9, 4.85, 4.8, 1, 1, 1], 2, 0.1, 3, 3),  # better, but by too little: still the best
    ],
)
def test_early_stopping(
    mt5: Base,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: list[float],
    patience: int,
    threshold: float,
    stops_at: int | None,
    best_step: int,
) -> None:
    stopping = {**EACH_STEP, "early_stopping_patience": patience, "early_stopping_threshold": threshold}
    with_metrics(monkeypatch, {"a": values, "b": [1.0] * 8})
    a, b, _ = three(a=stopping, b=EACH_STEP)
    trained = train_all(mt5, [a, b], TRAIN, tmp_path / "run", eval_set=EVAL)
    progress = trained.state.progress["a"]
    assert progress.status == ("done" if stops_at is None else "stopped")
    assert progress.step == (stops_at or 8)
    assert (progress.best_step, progress.best_metric) == (best_step, values[best_step - 1])
    assert trained.state.progress["b"].step == 8  # its neighbour goes on
    if stops_at:
        assert f"eval_loss has not improved in {patience} evaluations" in progress.reason


def test_the_best_adapter_outlives_the_rotation_of_checkpoints(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of step 2 is in the only checkpoint kept, after step 8, and in adapters/."""
    with_metrics(monkeypatch, {"a": [5, 1, 4, 3, 3, 3, 3, 3]})
    saving = {"save_strategy": "steps", "save_steps": 1}
    (a, *_) = three(a={**EACH_STEP, **saving})
    taken: dict[int, dict[str, Tensor]] = {}
    evaluate = loop.evaluate

    def watching(engine: Engine) -> None:
        taken[engine.state.tick] = {name: t.clone() for name, t in engine.bank.tensors("a").items()}
        evaluate(engine)

    monkeypatch.setattr(loop, "evaluate", watching)
    train_all(mt5, [a], TRAIN, tmp_path / "run", eval_set=EVAL, save_total_limit=1, **saving)
    state, verdicts = newest_valid(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert [v.folder.name for v in verdicts] == ["step-000008"]
    assert (state.progress["a"].best_step, state.progress["a"].best_metric) == (2, 1.0)
    written = read_adapter(tmp_path / "run" / "adapters" / "a", mt5)
    assert written.origin["best_step"] == 2
    for name, tensor in taken[2].items():
        assert torch.equal(state.tensors["a"].best[name], tensor)
        assert torch.equal(written.tensors[name], tensor)
        assert not torch.equal(tensor, taken[8][name])


def test_without_evaluation_the_last_adapter_is_kept(mt5: Base, tmp_path: Path) -> None:
    (a, *_) = three()
    trained = train_all(mt5, [a], TRAIN, tmp_path / "run")
    assert trained.state.progress["a"].best_step == 6
    assert trained.state.progress["a"].best_metric is None
    assert any(tensor.any() for name, tensor in trained.adapter("a").items() if name.endswith("lora_B"))


def test_a_metric_that_is_better_when_higher_chooses_the_highest(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chrf = iter([1.0, 3.0, 2.0, 2.5, 2.9, 2.8, 2.7, 2.6])
    monkeypatch.setattr(
        evaluation,
        "_generation_figures",
        lambda engine, names: {n: {"chrf": next(chrf)} for n in names},
    )
    with_metrics(monkeypatch, {"a": [8, 7, 6, 5, 4, 3, 2, 1]})
    (a, *_) = three(a={**EACH_STEP, "metric_for_best_model": "chrf"})
    trained = train_all(mt5, [a], TRAIN, tmp_path / "run", eval_set=EVAL, generation=GenerationSettings())
    assert (trained.state.progress["a"].best_step, trained.state.progress["a"].best_metric) == (2, 3.0)
    assert trained.column("a", "chrf", "eval")[1] == 3.0


@pytest.mark.parametrize(
    ("training", "due"),
    [
        ({"eval_strategy": "no"}, []),
        ({"eval_strategy": "epoch"}, [3, 6, 9]),  # 12 rows, 4 a step
        ({"eval_strategy": "epoch", "max_steps": 7}, [3, 6, 7]),
        ({"eval_strategy": "steps", "eval_steps": 4}, [4, 8, 9]),  # the last always
        ({"eval_strategy": "steps", "eval_steps": 100}, [9]),
    ],
    ids=str,
)
def test_evaluations_and_saves_are_due_when_the_settings_say(
    training: dict[str, Any], due: list[int]
) -> None:
    for what in ("eval", "save"):
        settings = {
            "per_device_train_batch_size": 4,
            "num_train_epochs": 3,
            **{key.replace("eval", what): value for key, value in training.items()},
        }
        timetable = Timetable(experiment("a", **settings), 12)
        assert [step for step in range(1, timetable.total_steps + 1) if timetable.is_due(what, step)] == due  # type: ignore[arg-type]


def test_events_say_where_each_experiment_stands(mt5: Base, tmp_path: Path) -> None:
    """One tick over the whole run, waves included, and each experiment's own step beside it."""
    a, b, _ = three(b={"max_steps": 3, "warmup_steps": 2, "learning_rate": 1e-3})
    trained = train_all(mt5, [a, b], TRAIN, tmp_path / "run", waves=[["a"], ["b"]])
    assert trained.column("a", "step") == [1, 2, 3, 4, 5, 6]
    assert trained.column("b", "step") == [7, 8, 9]
    assert trained.column("b", "experiment_step") == [1, 2, 3]
    assert trained.column("b", "learning_rate") == pytest.approx([0.0, 5e-4, 1e-3])
    assert trained.column("b", "epoch") == pytest.approx([1 / 6, 2 / 6, 3 / 6], abs=1e-4)
    assert all(rate > 0 for rate in trained.column("a", "tokens_per_second"))
    assert [e["status"] for e in trained.events if e["event"] == "end"] == ["done", "done"]


def test_training_goes_on_from_a_given_adapter(mt5: Base, tmp_path: Path) -> None:
    (a, *_) = three()
    bank = AdapterBank(mt5)
    tensors = speaking_tensors(bank, a.lora, seed=9)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    fresh = train_all(mt5, [a], TRAIN, tmp_path / "fresh")
    trained = train_all(mt5, [a], TRAIN, tmp_path / "run", initial={"a": tensors})
    assert trained.losses("a")[0] != pytest.approx(fresh.losses("a")[0], rel=1e-4)
    for name, tensor in trained.adapter("a").items():
        assert torch.equal(tensors[name], before[name])
        assert 0 < float((tensor - before[name]).abs().max()) < 0.01  # six small steps away


def test_a_checkpoint_that_cannot_be_written_ends_training_with_the_reason(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loraloom.training.checkpoint.write_bytes", full)
    saving = {"save_strategy": "steps", "save_steps": 2}
    (a, *_) = three(a=saving)
    with pytest.raises(CheckpointError, match="No space left on device"):
        train_all(mt5, [a], TRAIN, tmp_path / "run", **saving)

"""However many passes a step takes, every experiment learns the same; memory that runs out costs nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet
from loraloom.data.pass_plan import plan_passes
from loraloom.errors import TrainingError
from loraloom.forecast.plan import Need, wave_bytes
from loraloom.recipe import Experiment
from loraloom.run.events import read_events
from loraloom.run.folder import Run
from loraloom.session.safeguards import device_errors_explained
from loraloom.training import passes
from loraloom.training.checkpoint import newest_valid
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.setup import NO_LIMIT
from loraloom.training.state import Limits, TrainingState
from tests.parity import rig

TRAIN = rig.random_rows(12, seed=1)
SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 99}


def rows_of(*lengths: int) -> EncodedSet:
    tokens = [[1] * length for length in lengths]
    return EncodedSet(tokens, tokens)


def in_passes(
    plans: Sequence[Sequence[Sequence[int]]], rows: EncodedSet, together: int, limit: int | None
) -> list[list[tuple[int, list[int]]]]:
    return [
        [(own.trainee, list(own.rows)) for own in each.slices]
        for each in plan_passes(plans, rows, together, limit)
    ]


@pytest.mark.parametrize(
    ("together", "expected"),
    [
        (1, [[0], [1], [2]]),
        (20, [[0, 1], [2]]),
        (18, [[0, 1], [2]]),
        (17, [[0], [1], [2]]),
        (100, [[0, 1, 2]]),
    ],
)
def test_a_pass_holds_what_fits_and_at_least_one_micro_batch(
    together: int, expected: list[list[int]]
) -> None:
    rows = rows_of(4, 2, 3, 6, 2)
    plans = [[[0]], [[1, 2]], [[3, 4]]]  # 8, 10 and 16 tokens
    found = in_passes(plans, rows, together, None)
    assert [[trainee for trainee, _ in each] for each in found] == expected


def test_a_micro_batch_is_cut_only_where_memory_asks_for_it() -> None:
    rows = rows_of(4, 2, 3, 6, 2)  # 8, 4, 6, 12 and 4 tokens
    plans = [[[0, 1, 2, 3], [4]], [[2, 4]]]
    assert in_passes(plans, rows, 10, None) == [[(0, [0, 1, 2, 3])], [(1, [2, 4])], [(0, [4])]]
    assert in_passes(plans, rows, 10, 12) == [
        [(0, [0, 1])],
        [(0, [2])],
        [(0, [3])],
        [(1, [2, 4])],
        [(0, [4])],
    ]
    assert in_passes(plans, rows, 99, 12)[2:] == [[(0, [3])], [(1, [2, 4])], [(0, [4])]]
    assert [len(each) for each in in_passes(plans, rows, NO_LIMIT, 1)] == [1] * 7  # row by row, no less


@pytest.mark.parametrize("limit", [1, 7, 19, 40, 90])
def test_every_row_is_in_one_pass_and_no_pass_has_two_slices_of_one_experiment(limit: int) -> None:
    plans = [[[3, 1, 4], [5, 9, 2]], [[6, 0, 8, 7]], [[10], [11], [0, 1]]]
    for together in (5, 30, NO_LIMIT):
        found = list(plan_passes(plans, TRAIN, together, limit))
        for trainee, plan in enumerate(plans):
            for number, rows in enumerate(plan):
                slices = [own for each in found if each.micro_batch == number for own in each.slices]
                assert [row for own in slices if own.trainee == trainee for row in own.rows] == rows
        for each in found:
            owners = [own.trainee for own in each.slices]
            assert len(owners) == len(set(owners))
            assert each.num_tokens <= limit or each.num_rows == 1


def three() -> list[Experiment]:
    """Dropout everywhere, so that a token that drew other numbers would be seen."""
    return [
        rig.experiment("a", lora={"lora_dropout": 0.2}, per_device_train_batch_size=4, max_steps=3, **SAVING),
        rig.experiment(
            "b",
            lora={"r": 4, "target_modules": ["q", "v"], "lora_dropout": 0.3},
            per_device_train_batch_size=3,
            gradient_accumulation_steps=2,
            max_steps=3,
            **SAVING,
        ),
        rig.experiment("c", learning_rate=1e-3, per_device_train_batch_size=2, max_steps=2, **SAVING),
    ]


def train(base: Base, folder: Path, *, state: TrainingState | None = None, **options: Any) -> rig.TrainedRun:
    return rig.train_all(
        base, three(), TRAIN, folder, state=state, **{**SAVING, "base_dropout": 0.1, **options}
    )


def assert_same_training(found: rig.TrainedRun, expected: rig.TrainedRun) -> None:
    """The same rows in every step, the same losses, the same adapters, up to the order of sums."""
    for name in ("a", "b", "c"):
        assert found.column(name, "num_tokens") == expected.column(name, "num_tokens")
        assert found.losses(name) == pytest.approx(expected.losses(name), rel=1e-5)
        for key, tensor in found.adapter(name).items():
            torch.testing.assert_close(tensor, expected.adapter(name)[key], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def whole(loaded: Callable[[str], Base], tmp_path_factory: pytest.TempPathFactory) -> rig.TrainedRun:
    """With memory enough."""
    return train(loaded("mt5"), tmp_path_factory.mktemp("whole") / "run")


# Of one row at a time there is nothing to pack.
@pytest.mark.parametrize(("packing", "limit"), [(True, 1), (True, 20), (True, 60), (False, 20), (False, 60)])
def test_smaller_passes_change_no_experiment(
    mt5: Base, whole: rig.TrainedRun, limit: int, packing: bool, tmp_path: Path
) -> None:
    state = TrainingState.at_start(["a", "b", "c"])
    state.narrow(1, Limits(pass_tokens=limit))
    assert_same_training(train(mt5, tmp_path / "run", state=state, packing=packing), whole)


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most_tokens: int, error: type[Exception]) -> list[int]:
    """Let a pass of more tokens fail; gives the tokens of every pass that is tried."""
    real, tried = passes.span_losses, []

    def losses(base: Base, batch: Any, *smoothing: Any) -> Any:
        num_tokens = int((batch.source_segments > 0).sum() + (batch.target_segments > 0).sum())
        tried.append(num_tokens)
        if num_tokens > most_tokens:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        return real(base, batch, *smoothing)

    monkeypatch.setattr(passes, "span_losses", losses)
    return tried


@pytest.mark.parametrize(
    ("most_tokens", "error"),
    [(30, torch.OutOfMemoryError), (60, torch.OutOfMemoryError), (30, RuntimeError), (30, MemoryError)],
)
def test_out_of_memory_the_same_step_goes_through_in_smaller_passes(
    mt5: Base,
    whole: rig.TrainedRun,
    most_tokens: int,
    error: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = short_of_memory(monkeypatch, most_tokens, error)
    trained = train(mt5, tmp_path / "run")
    assert_same_training(trained, whole)
    told = [event for event in trained.events if event["event"] == "memory"]
    assert told
    assert told[0]["step"] == 1
    assert told[0]["tried"] == tried[0]
    limits = [event["pass_tokens"] for event in told]
    assert limits == sorted(limits, reverse=True)
    # It was learnt: a later step tries no more than an earlier one was refused.
    assert sum(num > most_tokens for num in tried) == len(told)


def test_a_resume_goes_by_what_memory_allowed_and_gives_the_same_bits(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from before it ran out, and where memory would be enough now: the log has the limit."""
    with monkeypatch.context() as patch:
        short_of_memory(patch, 45, torch.OutOfMemoryError)
        uninterrupted = train(mt5, tmp_path / "run")
    ran_out = [e["step"] for e in uninterrupted.events if e["event"] == "memory"]
    for tick in (1, 2):
        shutil.copytree(tmp_path / "run", tmp_path / f"run-{tick}")
        for path in (tmp_path / f"run-{tick}" / "checkpoints").iterdir():
            if int(path.name.removeprefix("step-")) > tick:
                shutil.rmtree(path)
        state, _ = newest_valid(tmp_path / f"run-{tick}" / "checkpoints")
        assert state is not None
        assert sorted(state.limits) == sorted({step for step in ran_out if step <= tick})
        state.replay(uninterrupted.history)
        resumed = train(mt5, tmp_path / f"run-{tick}", state=state)
        for name in ("a", "b", "c"):
            later = uninterrupted.losses(name)[tick:]
            assert resumed.losses(name) == later
            for key, tensor in resumed.adapter(name).items():
                assert torch.equal(tensor, uninterrupted.adapter(name)[key])


def test_a_single_row_that_is_too_much_is_said_with_its_number(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(monkeypatch, 3, torch.OutOfMemoryError)
    with pytest.raises(TrainingError, match=r"one row at a time.*training row \d+, \d+ tokens.*gradient_"):
        train(mt5, tmp_path / "run")


def test_any_other_error_of_a_pass_is_not_taken_for_one_of_memory(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(passes, "span_losses", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(mt5, tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_how_running_out_of_memory_shows(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_outside_of_passes_is_an_error_of_ours(error: Exception, tmp_path: Path) -> None:
    with (
        pytest.raises(TrainingError, match=r"adapters and their optimizers.*fewer experiments"),
        device_errors_explained(Run(tmp_path)),
    ):
        raise error
    with pytest.raises(RuntimeError, match="something else"), device_errors_explained(Run(tmp_path)):
        raise RuntimeError("something else")


def test_limits_only_ever_become_narrower() -> None:
    state = TrainingState.at_start([])
    state.narrow(7, Limits(pass_tokens=512))
    state.narrow(3, Limits(pass_tokens=256, eval_rows=4))  # in a life before: a resume had less memory
    assert state.limits_at(2) == Limits()
    assert state.limits_at(6) == state.limits_at(9) == Limits(256, 4)


def test_a_log_that_was_damaged_sets_no_limit() -> None:
    state = TrainingState.at_start([])
    state.replay(
        read_events(
            [
                '{"event": "memory"}',
                '{"event": "memory", "step": "x", "pass_tokens": [], "eval_rows": 0}',
                '{"event": "memory", "step": 3, "phase": "training", "tried": 9, "pass_tokens": 0, '
                '"eval_rows": 1}',
            ]
        )
    )
    assert state.limits == {}


def test_a_wave_needs_all_adapters_but_only_one_pass_of_activations() -> None:
    needs = [Need(10, 1000, 500)] * 8
    assert wave_bytes(needs, tokens=500) == 80 + 1000
    assert wave_bytes(needs, tokens=1000) == 80 + 2000
    assert wave_bytes(needs, tokens=10**9) == 80 + 8000
    assert wave_bytes([Need(10, 5000, 2500)], tokens=500) == 10 + 5000  # a micro-batch alone is not parted

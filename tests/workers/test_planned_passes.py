"""Whoever trains experiments plans passes for its own memory: a worker, and the process of a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.train import train
from loraloom.data.pass_plan import Pass
from loraloom.forecast.footprint import Counter, training_phase
from loraloom.forecast.plan import USABLE_SHARE, fitting_limit
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Event, MemoryLimit, TrainStep, read_event
from loraloom.run.folder import Run
from loraloom.session.locations import Relocation
from loraloom.training import passes
from loraloom.training.checkpoint import read_state, state_files, with_limits
from loraloom.training.passes import PassTooLargeError
from loraloom.training.state import Limits, TrainingState
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.worker_loop import train_wave
from loraloom.workers.worker_material import WorkerMaterial, load_material
from tests.search.small import run_search, write_recipe_file


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Pass]:
    """Every training pass that is run."""
    found: list[Pass] = []
    plain = passes.run_pass

    def watched(engine: Any, trainees: Any, each: Pass, num_labels: Any) -> Any:
        found.append(each)
        return plain(engine, trainees, each, num_labels)

    monkeypatch.setattr(passes, "run_pass", watched)
    return found


def too_little(own: WorkerMaterial) -> tuple[int, int]:
    """Free memory that holds no whole micro-batch of the first experiment; and the limit of its passes."""
    counter, first = Counter(own.material.bank, own.material.train_set), own.material.experiments[0]
    usable = training_phase(counter, [first], 0, None).bytes - 1
    limit = fitting_limit([first], counter, usable)
    assert limit is not None
    return int(usable / USABLE_SHARE), limit


def wave_of(own: WorkerMaterial, run: Run, limits: dict[int, Limits]) -> list[WorkerMessage]:
    """What a worker tells of a wave of all experiments, from their start on."""
    state = TrainingState.at_start([each.name for each in own.material.experiments])
    state.limits = limits
    recipe, told = run.recipe_file.read_text(encoding="utf-8"), list[WorkerMessage]()
    train_wave(own, Wave(1, recipe, dict(state_files(state))), told.append, lambda: False)
    return told


def events_of(told: Sequence[WorkerMessage]) -> list[Event | None]:
    """The events among messages."""
    return [read_event(each.event) for each in told if each.kind == "event"]


def trained(own: WorkerMaterial, run: Run, folder: Path, limits: dict[int, Limits]) -> tuple[Any, ...]:
    """Losses of a wave of all experiments, and the state at its end."""
    told = wave_of(own, run, limits)
    events = events_of(told)
    assert not [event for event in events if isinstance(event, MemoryLimit)]
    losses = [event.loss for event in events if isinstance(event, TrainStep)]
    return losses, read_state(told[-1].files, folder)


def test_a_worker_with_less_memory_computes_the_same_in_smaller_passes(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[Pass]
) -> None:
    file = write_recipe_file(tmp_path / "recipe", tiny("mt5"), training={"max_steps": 2})
    run = train(read_recipe(file), out=tmp_path / "run").run
    ample = load_material(run, Relocation())
    assert ample.pass_limit is None
    ran.clear()
    losses, _ = trained(ample, run, tmp_path, {})
    whole = max(each.num_tokens for each in ran)
    free, limit = too_little(ample)
    assert limit < whole
    monkeypatch.setattr("loraloom.workers.worker_material.free_bytes", lambda device: free)
    short = load_material(run, Relocation())
    assert (short.pass_limit, short.capacity) == (limit, 1)
    ran.clear()
    cut, state = trained(short, run, tmp_path, {})
    assert max(each.num_tokens for each in ran) <= limit
    assert len(cut) == 2
    assert cut == pytest.approx(losses, abs=1e-4)
    assert state.limits == {}  # they are this worker's own: who trains the lane next has its own memory


def test_limits_that_memory_has_shown_stay_with_the_worker_and_not_with_what_it_trains(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[Pass]
) -> None:
    changes = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    file = write_recipe_file(tmp_path / "recipe", tiny("mt5"), training=changes)
    run = train(read_recipe(file), out=tmp_path / "run").run
    short, ample = (load_material(run, Relocation()) for _ in range(2))
    ran.clear()
    trained(ample, run, tmp_path, {1: Limits(pass_tokens=1)})  # of another machine
    whole = max(each.num_tokens for each in ran)
    assert all(each.num_rows > 1 for each in ran)
    plain, holds = passes.run_pass, whole // 2

    def short_of_memory(engine: Any, trainees: Any, each: Pass, num_labels: Any) -> Any:
        if each.num_tokens > holds:
            raise PassTooLargeError(each)
        return plain(engine, trainees, each, num_labels)

    monkeypatch.setattr(passes, "run_pass", short_of_memory)
    told = wave_of(short, run, {1: Limits(eval_rows=3)})
    assert [event.phase for event in events_of(told) if isinstance(event, MemoryLimit)]
    states = [read_state(each.files, tmp_path) for each in told if each.kind != "event"]
    assert len(states) > 1  # those of checkpoints, and that of the end
    assert all(state.limits == {1: Limits(eval_rows=3)} for state in states)
    again = wave_of(short, run, {})  # the worker knows
    assert not [event for event in events_of(again) if isinstance(event, MemoryLimit)]
    monkeypatch.setattr(passes, "run_pass", plain)
    ran.clear()
    files = told[-1].files
    assert with_limits(files, {}) == dict(state_files(replace(read_state(files, tmp_path), limits={})))
    trained(ample, run, tmp_path, {})
    assert max(each.num_tokens for each in ran) == whole


def test_a_search_plans_its_passes_and_resumes_with_the_same_ones(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: list[Pass]
) -> None:
    recipe = write_recipe_file(tmp_path / "recipe", tiny("mt5"))
    whole = run_search(recipe, tmp_path / "whole", num_trials=2, sampler="random")
    assert Provenance.read(whole.run.provenance_file).pass_limit is None
    monkeypatch.setattr("loraloom.search.concurrency.free_bytes", lambda device: 0)
    ran.clear()
    cut = run_search(recipe, tmp_path / "cut", num_trials=2, sampler="random")
    known = Provenance.read(cut.run.provenance_file)
    assert known.pass_limit is not None
    assert known.prediction is not None
    assert known.prediction.memory.pass_limit == known.pass_limit
    assert all(each.num_tokens <= known.pass_limit or each.num_rows == 1 for each in ran)
    assert not [event for event in cut.run.events() if isinstance(event, MemoryLimit)]
    figures = [[trial.figure for trial in each.ledger.trials] for each in (whole, cut)]
    assert figures[1] == pytest.approx(figures[0], abs=1e-3)
    monkeypatch.undo()
    more = run_search(recipe, tmp_path / "cut", resume=True, num_trials=3, sampler="random")
    assert Provenance.read(more.run.provenance_file).pass_limit == known.pass_limit

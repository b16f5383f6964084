"""Waves and messages as bytes, lanes on disk, and the workers that a pool loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.errors import Interrupted, TrainingError
from loraloom.run.events import Event, ExperimentEnd, Note, TrainStep, WarningNote, quiet
from loraloom.run.folder import Run, create_run
from loraloom.text.message import Message
from loraloom.training.checkpoint import state_files
from loraloom.training.lanes import MAIN, Lane, Lanes, read_lanes
from loraloom.training.pool import LOSSES_UNTIL_DIVIDED, WavePool
from loraloom.training.signals import StopRequest
from loraloom.training.spread import Spread
from loraloom.training.state import Limits, Progress, SlotTensors, TrainingState
from loraloom.training.waves import NoWorkers, Wave, WorkerMessage


def state_of(tick: int = 7, **steps: int) -> TrainingState:
    """A state of experiments that have taken some steps."""
    tensors = {
        name: SlotTensors(current={"a": torch.full((2,), float(step))}) for name, step in steps.items()
    }
    progress = {name: Progress("training", step) for name, step in steps.items()}
    return TrainingState(tick, progress, tensors, {3: Limits(pass_tokens=99)})


def test_waves_and_updates_are_the_same_after_a_journey() -> None:
    wave = Wave(3, "recipe", dict(state_files(state_of(a=2, b=4))), {"a": [2, 5]}, 7)
    assert Wave.unpacked(wave.packed()) == wave
    problem = Message("{name} is lost", name="x")
    message = WorkerMessage(
        "failure", 3, event={"event": "note", "message": problem}, files={"f": b"\0"}, problem=problem
    )
    again = WorkerMessage.unpacked(message.packed())
    assert (again.kind, again.number, again.files, again.problem) == ("failure", 3, {"f": b"\0"}, problem)
    assert isinstance(again.problem, Message)


@pytest.mark.parametrize("cut", [0, 5, 9, 40, -1])
def test_what_is_truncated_is_refused(cut: int) -> None:
    content = WorkerMessage("end", 1, files=dict(state_files(state_of(a=1)))).packed()
    with pytest.raises(ValueError, match=r"\w"):
        WorkerMessage.unpacked(content[:cut])


@pytest.mark.parametrize("name", ["/etc/passwd", "../events.jsonl", "slots/../../best.yaml"])
def test_a_file_outside_of_the_checkpoint_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is outside"):
        WorkerMessage.unpacked(WorkerMessage("end", 1, files={name: b"x"}).packed())


@dataclass
class Stub:
    """A worker that says what it is told to."""

    name: str = "stub"
    capacity: int = 4
    loss: str = ""
    waves: list[Wave] = field(default_factory=list)
    said: list[WorkerMessage] = field(default_factory=list)

    def start(self, wave: Wave) -> None:
        self.waves.append(wave)

    def messages(self) -> Sequence[WorkerMessage]:
        said, self.said = self.said, []
        return said

    def message(self, kind: Any, files: Mapping[str, bytes] = {}, **more: Any) -> WorkerMessage:
        return WorkerMessage(kind, self.waves[-1].number, files=files, **more)

    def recall(self) -> None: ...

    def dismiss(self) -> None: ...


class Pooled:
    """A pool with one lane and a log."""

    def __init__(self, folder: Path, state: TrainingState) -> None:
        self.run, self.log = create_run(folder), list[Event]()
        self.lanes = Lanes(self.run, [])
        self.lane = self.lanes.add(state)
        self.pool = WavePool(self.lanes, NoWorkers(), self.log.append, self.log.append)

    def give(self, lane: Lane) -> Stub:
        worker = Stub()
        self.pool.workers.append(worker)
        self.pool.send(lane, worker, "recipe", {}, 0)
        return worker


def test_a_lost_workers_lane_is_at_its_last_checkpoint_and_late_words_are_ignored(tmp_path: Path) -> None:
    own = Pooled(tmp_path / "run", state_of(a=2, b=2))
    worker = own.give(own.lane)
    later = dict(state_files(state_of(9, a=4, b=4)))
    worker.said = [worker.message("checkpoint", later), worker.message("event", event=_step("a", 5))]
    own.pool.attend()
    assert own.lane.step_of("a") == 5
    worker.loss = "it was killed"
    own.pool.attend()
    assert (own.lane.is_home, own.lane.step_of("a"), own.lane.home_state.tick) == (True, 4, 9)
    second = own.give(own.lane)
    second.said = [worker.message("end", dict(state_files(state_of(99, a=99, b=99))))]
    own.pool.attend()
    assert not own.lane.is_home  # the words of the first wave were not taken for those of the second
    assert [type(event) for event in own.log].count(WarningNote) == 1
    assert any(
        "training will continue elsewhere after step 9" in str(e.message)
        for e in own.log
        if isinstance(e, Note)
    )


def _step(name: str, step: int) -> dict[str, object]:
    values = {"step": step, "experiment": name, "experiment_step": step, "total_steps": 9, "epoch": 1.0}
    figures = {"loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0, "num_tokens": 3, "tokens_per_second": 1.0}
    return TrainStep.from_json(values | figures).to_json()


def test_an_experiment_that_ends_workers_is_found_and_fails_alone(tmp_path: Path) -> None:
    own = Pooled(tmp_path / "run", state_of(good=2, bad=2))
    for _ in range(LOSSES_UNTIL_DIVIDED):
        own.give(own.lane).loss = "killed"
        own.pool.attend()
    lanes = {lane.names[0]: lane for lane in own.lanes}
    assert set(lanes) == {"good", "bad"}
    own.give(lanes["bad"]).loss = "killed"
    own.pool.attend()
    assert lanes["bad"].home_state.progress["bad"].status == "failed"
    assert "3 workers were lost" in lanes["bad"].home_state.progress["bad"].reason
    good = own.give(lanes["good"])
    good.said = [good.message("end", dict(state_files(state_of(20, good=9))))]
    own.pool.attend()
    assert lanes["good"].step_of("good") == 9
    assert [event.experiment for event in own.log if isinstance(event, ExperimentEnd)] == ["bad"]


def test_a_worker_that_fails_is_not_asked_again(tmp_path: Path) -> None:
    own = Pooled(tmp_path / "run", state_of(a=2))
    own.give(own.lane).said = [WorkerMessage("failure", 0, problem=Message("the device failed"))]
    own.pool.attend()
    assert own.lane.is_home
    assert own.pool.workers == []

    class Nobody(NoWorkers):
        def why_none(self) -> str:
            return "all have left"

    own.pool.source = Nobody()
    with pytest.raises(
        TrainingError, match="everything trained so far is saved, but no worker is left: all have left"
    ):
        own.pool.wait()


def test_an_experiment_in_two_lanes_after_a_crash_is_in_the_one_that_is_ahead(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    lanes = Lanes(run, [])
    old = lanes.add(state_of(a=2, b=2, c=2))
    old.stored()
    new = lanes.add(state_of(8, b=3))
    new.stored()
    found, verdicts = read_lanes(Run(run.folder), ["a", "b"])  # c has ended
    assert {lane.name: lane.names for lane in found} == {"main": [], old.name: ["a"], new.name: ["b"]}
    assert [verdict.problem for verdict in verdicts] == ["", ""]


def test_a_divided_lane_keeps_its_steps_and_limits(tmp_path: Path) -> None:
    own = Pooled(tmp_path / "run", state_of(a=2, b=2, c=2))
    new = own.lanes.divide(own.lane, ["b"])
    assert (own.lane.names, new.names) == (["a", "c"], ["b"])
    assert own.lane.home_state.limits == new.home_state.limits == {3: Limits(pass_tokens=99)}
    again, _ = read_lanes(own.run, ["a", "b", "c"])
    assert [lane.names for lane in again] == [[], ["a", "c"], ["b"]]


def test_what_a_worker_returns_at_a_stop_is_saved_in_the_lane_of_this_process_too(tmp_path: Path) -> None:
    class Owner:
        most_together = 4

        def settle(self, lane: Lane) -> None: ...

        def stopped(self, signal_number: int) -> None:
            raise Interrupted(signal_number, "stopped")

    run = create_run(tmp_path / "run")
    lanes = Lanes(run, [Lane(MAIN, run.checkpoints, state_of(a=2))])
    owner: Any = Owner()
    spread = Spread(owner, lanes, NoWorkers(), capacity=4, stop=StopRequest(), record=quiet, report=quiet)
    worker = Stub()
    spread.pool.workers.append(worker)
    spread.pool.send(lanes[0], worker, "recipe", {}, 0)
    worker.said = [worker.message("end", dict(state_files(state_of(9, a=4))))]
    with pytest.raises(Interrupted):
        spread.end(15)
    found, _ = read_lanes(run, ["a"])
    assert found[0].step_of("a") == 4

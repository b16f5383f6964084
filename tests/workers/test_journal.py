"""What a worker and its driver agree on through a journal: in order, once, and for one worker alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run.folder import Run, create_run
from loraloom.text.message import Message
from loraloom.training.checkpoint import state_files, tick_of
from loraloom.training.signals import StopRequest
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers import file_workers, journal
from loraloom.workers.beats import machine
from loraloom.workers.file_post import FilePost
from loraloom.workers.file_workers import FileWorkers
from loraloom.workers.journal import FILE
from loraloom.workers.wave_files import DRIVER_BEAT, FOLDER, EventFile, event_file
from tests.workers.test_waves import state_of

STATE = dict(state_files(state_of(7, a=2)))
LATER = dict(state_files(state_of(9, a=4)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose driver looks at every call for what was told."""
    monkeypatch.setattr(file_workers, "POLL_SECONDS", 0.0)
    return create_run(tmp_path / "run")


class Pair:
    """A worker and its driver in one process."""

    def __init__(self, run: Run, name: str = "worker", source: FileWorkers | None = None) -> None:
        self.source = FileWorkers(run) if source is None else source
        self.post = FilePost(run.folder / FOLDER / name, name, StopRequest())
        self.post.ready(4, "cpu")
        (self.worker,) = self.source.newcomers()

    def train(self, number: int) -> Wave:
        """Give a wave of this number, and take it."""
        self.worker.start(Wave(number, "recipe", STATE))
        wave = self.post.receive()
        assert wave is not None
        assert wave == Wave(number, "recipe", STATE)
        return wave

    def leave(self) -> None:
        """End both."""
        self.worker.dismiss()
        assert self.post.receive() is None
        self.source.close()
        self.post.close()
        assert not self.post.folder.parent.exists()


def told(messages: list[WorkerMessage]) -> list[tuple[str, int, int]]:
    """Kind, wave, and step of each message."""
    return [
        (each.kind, each.number, tick_of(each.files) if each.files else int(each.event.get("step", -1)))
        for each in messages
    ]


def event(number: int, step: int) -> WorkerMessage:
    return WorkerMessage("event", number, event={"event": "step", "step": step})


def test_what_is_told_arrives_once_and_in_order_and_leaves_no_file(run: Run) -> None:
    own = Pair(run)
    for number in (1000, 1001):
        own.train(number)
        own.post.send(event(number, 6))
        own.post.send(event(number, 7))
        own.post.send(WorkerMessage("checkpoint", number, files=STATE))
        own.post.send(event(number, 8))
        own.post.send(WorkerMessage("end", number, files=LATER))
        expected = [("event", 6), ("event", 7), ("checkpoint", 7), ("event", 8), ("end", 9)]
        assert told([*own.worker.messages()]) == [(kind, number, step) for kind, step in expected]
        assert own.worker.messages() == []
        assert {each.name for each in own.post.folder.iterdir()} == {FILE, "driver.beat", "worker.beat"}
    own.leave()


def test_events_that_follow_a_checkpoint_are_not_read_before_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker tells both while the driver is between the file of events and the journal."""
    own = Pair(run)
    own.train(3)
    own.post.send(event(3, 6))
    own.post._flush()
    plain = EventFile.read

    def reading(file: EventFile) -> int:
        size = plain(file)
        if file.number == 3 and own.post._events is not None and own.post._num_told == 0:
            own.post.send(event(3, 7))
            own.post.send(WorkerMessage("checkpoint", 3, files=STATE))
            own.post.send(event(3, 8))
            own.post._flush()
        return size

    monkeypatch.setattr(EventFile, "read", reading)
    found = [*own.worker.messages(), *own.worker.messages()]
    assert told(found) == [("event", 3, 6), ("event", 3, 7), ("checkpoint", 3, 7), ("event", 3, 8)]
    own.post.send(WorkerMessage("end", 3, files=LATER))
    assert told([*own.worker.messages()]) == [("end", 3, 9)]
    own.leave()


def test_a_wave_is_recalled_and_the_next_one_is_not(run: Run) -> None:
    own = Pair(run)
    own.train(1)
    assert not own.post.is_recalled()
    own.worker.recall()
    time.sleep(0.1)
    assert own.post.is_recalled()
    own.post.send(WorkerMessage("end", 1, files=LATER))
    assert told([*own.worker.messages()]) == [("end", 1, 9)]
    own.train(2)
    time.sleep(0.1)
    assert not own.post.is_recalled()
    own.post.send(WorkerMessage("end", 2, files=LATER))
    own.worker.messages()
    own.leave()


def test_a_failure_is_told_with_its_reason(run: Run) -> None:
    own = Pair(run)
    own.train(5)
    own.post.send(event(5, 6))
    problem = Message("the device {name} failed", name="cuda:1")
    own.post.send(WorkerMessage("failure", 5, problem=problem))
    first, second = own.worker.messages()
    assert (first.kind, second.kind, second.number, second.problem) == ("event", "failure", 5, problem)
    assert isinstance(second.problem, Message)
    own.leave()


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_worker_that_outlives_its_driver_gives_the_wave_back_to_the_next_one(
    has_ended: bool, run: Run
) -> None:
    """On another machine it does not notice within a minute that a process was killed and another came."""
    own = Pair(run)
    own.train(7)
    own.post.send(event(7, 6))
    own.post.send(WorkerMessage("checkpoint", 7, files=STATE))
    if has_ended:
        own.post.send(WorkerMessage("end", 7, files=LATER))
    own.source._beats.stop()
    source = FileWorkers(run)
    (own.worker,) = source.newcomers()
    own.source = source
    if not has_ended:
        assert own.post.is_recalled()
        own.post.send(WorkerMessage("end", 7, files=LATER))
    numbers = {message.number for message in own.worker.messages()}
    assert numbers == (set() if has_ended else {7})  # which the pool knows to be of nobody
    own.train(8)
    assert not own.post.is_recalled()
    own.post.send(WorkerMessage("end", 8, files=LATER))
    assert told([*own.worker.messages()]) == [("end", 8, 9)]
    own.leave()


@pytest.mark.parametrize(
    "damage", [b'{"op_code": 8, "wor', b"{}\n", b"[]\n", b'{"op_code": 99, "worker_id": ""}\n']
)
def test_a_damaged_line_costs_only_its_worker(damage: bytes, run: Run) -> None:
    own = Pair(run)
    other = Pair(run, "other", own.source)
    own.train(1)
    other.train(2)
    with own.post._journal.file.open("ab") as file:
        file.write(damage)
    for _ in range(2):  # it stays so
        with pytest.raises(
            RunError, match="cannot be used to communicate with the process that writes the run"
        ):
            own.post.send(WorkerMessage("checkpoint", 1, files=STATE))
    own.worker.recall()  # after which nobody can read the line before
    own.worker.messages()
    assert "cannot be read" in own.worker.loss
    assert isinstance(own.worker.loss, Message)
    own.worker.dismiss()
    other.post.send(WorkerMessage("end", 2, files=LATER))
    assert told([*other.worker.messages()]) == [("end", 2, 9)]
    own.post.close()
    other.leave()


def test_a_newcomer_whose_journal_is_damaged_is_named_and_not_used(run: Run) -> None:
    source = FileWorkers(run)
    post = FilePost(run.folder / FOLDER / "worker", "worker", StopRequest())
    with post._journal.file.open("ab") as file:
        file.write(b"{}\n")
    assert source.newcomers() == []
    (remark,) = source.remarks()
    assert "worker cannot take part: the worker's journal cannot be read" in remark
    assert not post.folder.exists()
    assert (source.newcomers(), source.remarks()) == ([], [])
    source.close()
    post.close()


def test_a_lock_that_a_killed_process_has_left_is_waited_for_but_not_for_long(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS", 3)
    own = Pair(run)
    own.train(1)
    lock = own.post.folder / f"{FILE}.lock"
    lock.touch()
    began = time.monotonic()
    assert own.worker.messages() == []  # who reads does not wait
    assert not own.post.is_recalled()
    assert time.monotonic() - began < 1
    own.worker.recall()
    assert 2 < time.monotonic() - began < 10
    assert own.post._journal.noted("recalled") == 0
    assert not lock.exists()
    own.post.send(WorkerMessage("end", 1, files=LATER))
    own.worker.messages()
    own.leave()


@pytest.fixture
def ended_process() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_that_an_earlier_version_left_is_no_worker_and_is_removed(
    run: Run, ended_process: int
) -> None:
    folder = run.folder / FOLDER / f"node-{ended_process}-0"
    folder.mkdir(parents=True)
    sign = {"machine": machine(), "pid": ended_process, "started": 1.0, "time": 1.0}
    (folder / "worker.beat").write_text(json.dumps(sign))
    (folder / "ready.json").write_text('{"name": "node", "capacity": 4, "device": "cpu"}')
    (folder / "told-000001").write_bytes(b"x")
    source = FileWorkers(run)
    assert (source.newcomers(), source.remarks()) == ([], [])
    assert not (folder / DRIVER_BEAT).exists()
    source.close()
    assert not (run.folder / FOLDER).exists()


def test_an_event_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file, path = EventFile(tmp_path, 4), tmp_path / event_file(4)
    assert (file.read(), file.take()) == (0, [])
    path.write_bytes(b'{"step": 1}\n{"st')
    assert file.read() == 16
    assert [each.event for each in file.take()] == [{"step": 1}]
    with path.open("ab") as end:
        end.write(b'ep": 2}\n')
    file.read()
    assert [each.event for each in file.take(24)] == [{"step": 2}]
    with pytest.raises(ValueError, match=r"events-000004\.jsonl is shorter than 40 bytes"):
        file.take(40)

"""The model process: what one request breaks does not take the others with it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.serving.job import Decoding, Job
from loraloom.serving.served_model import ServedModel
from loraloom.serving.worker import MOST_FAILURES, Worker
from tests.serving.models import served

JOBS = [Job(number, "a0", f"how are you {number}?", decoding=Decoding(max_tokens=3)) for number in range(3)]


@pytest.fixture
def model(mt5: Base) -> Iterator[ServedModel]:
    return served(mt5, 1)


class Process:
    """A worker in a thread, at the other end of two pipes."""

    def __init__(self, model: ServedModel, max_rows: int) -> None:
        self._inner, self._outer = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
        self._answers, outer = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), "rw", strict=True))
        self.worker = Worker(model, max_rows, self._inner, outer)
        self.raised: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(outer,))
        self._thread.start()

    def _run(self, answers: Any) -> None:
        try:
            self.worker.run()
        except Exception as error:
            self.raised = error
        answers.close()

    def send(self, *jobs: Job) -> None:
        lines = [json.dumps({"do": "answer", "id": job.id, "job": job.to_json()}) for job in jobs]
        self._outer.write("\n".join(lines) + "\n")
        self._outer.flush()

    def endings(self, number: int) -> dict[int, str]:
        """Wait for the ends of so many requests: how each ended, or the code of its error."""
        found: dict[int, str] = {}
        while len(found) < number and (line := self._answers.readline()):
            for event in json.loads(line)["events"]:
                if ending := event.get("error", {}).get("code") or event.get("reason"):
                    found[event["id"]] = ending
        return found

    def close(self) -> None:
        self._outer.close()
        self._thread.join()
        self._inner.close()
        self._answers.close()


@pytest.mark.parametrize(
    ("error", "code"),
    [(RuntimeError("broken"), "internal_error"), (torch.OutOfMemoryError("too large"), "out_of_memory")],
)
def test_a_step_that_raises_costs_its_own_requests(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    process = Process(model, max_rows=1)  # the others wait
    batch = process.worker.scheduler.batch
    join = batch.join

    def breaks_once(*given: Any) -> torch.Tensor:
        monkeypatch.setattr(batch, "join", join)
        raise error

    monkeypatch.setattr(batch, "join", breaks_once)
    process.send(*JOBS)
    endings = process.endings(3)
    process.close()
    assert process.raised is None
    assert endings[0] == code
    assert {endings[1], endings[2]} <= {"stop", "length"}


def test_a_request_that_cannot_even_be_read_costs_itself(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(model, max_rows=4)
    submit = process.worker.scheduler.submit

    def breaks_for_one(job: Job) -> None:
        if job.id == 1:
            raise RuntimeError("broken")
        submit(job)

    monkeypatch.setattr(process.worker.scheduler, "submit", breaks_for_one)
    process.send(*JOBS)
    endings = process.endings(3)
    process.close()
    assert endings[1] == "internal_error"
    assert {endings[0], endings[2]} <= {"stop", "length"}


def test_a_device_that_has_failed_ends_the_process(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(model, max_rows=1)

    def breaks(*given: Any) -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(process.worker.scheduler.batch, "encode", breaks)
    process.send(*JOBS)
    endings = process.endings(3)
    process.close()
    assert set(endings.values()) == {"internal_error"}
    assert len(endings) == MOST_FAILURES
    assert str(process.raised) == "the device is lost"

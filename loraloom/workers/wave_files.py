"""The files in the folder of a worker that shares the run's file system with its driver.

    RUN/workers/node3-4711/
      journal.log           what worker and driver tell each other, in order (`journal.py`); names other files
      worker.beat           the worker's heartbeat (`beats.py`)
      driver.beat           the driver's heartbeat
      wave-000004           from the driver: a wave, which the worker removes
      events-000004.jsonl   from the worker: the events of the wave so far, which the driver removes
      told-000017           from the worker: a training state, which the driver removes

Lines are appended to the journal and the events; any other file is complete when it gets its name. A worker
writes nothing outside of its own folder.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from loraloom.run.documents.document import JsonObject
from loraloom.run.patience import POLL_SECONDS as PATIENT_POLL_SECONDS
from loraloom.run.patience import SECONDS_FOR_A_FILE, despite_stalls
from loraloom.text.message import Message
from loraloom.training.waves import WorkerMessage

FOLDER = "workers"
WORKER_BEAT, DRIVER_BEAT = "worker.beat", "driver.beat"
POLL_SECONDS = 0.05


def wave_file(number: int) -> str:
    """Return the name of the file that contains the wave with this number."""
    return f"wave-{number:06d}"


def event_file(number: int) -> str:
    """Return the name of the file with the events of the wave with this number."""
    return f"events-{number:06d}.jsonl"


class EventFile:
    """The events of a wave, which the driver reads while the worker writes them.

    Args:
        folder: folder of the worker.
        number: number of the wave.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.number, self._path = number, folder / event_file(number)
        self._num_taken, self._rest = 0, b""

    def read(self) -> int:
        """Read what has been added; return the number of bytes read so far.

        Raises:
            OSError: the file cannot be read.
        """
        with contextlib.suppress(FileNotFoundError):  # no event was written yet
            self._rest += despite_stalls(self._added)
        return self._num_taken + len(self._rest)

    def take(self, until: int | None = None) -> list[WorkerMessage]:
        """Return the events that were read but not taken yet.

        Args:
            until: offset in the file, in bytes, up to which events are taken; by default all complete lines.

        Raises:
            OSError, ValueError: the file cannot be read, or remains shorter than `until`.
        """
        if until is not None:
            self._wait_for(until)
        end = None if until is None else max(0, until - self._num_taken)
        whole = self._rest[:end].rpartition(b"\n")[0]
        if not whole:
            return []
        self._num_taken, self._rest = self._num_taken + len(whole) + 1, self._rest[len(whole) + 1 :]
        events: list[JsonObject] = [json.loads(line) for line in whole.splitlines()]
        return [WorkerMessage("event", self.number, event=event) for event in events]

    def remove(self) -> None:
        """Remove the file, because the wave has ended."""
        self._path.unlink(missing_ok=True)

    def _wait_for(self, size: int) -> None:
        """Read until the file has a given size; on some file systems, it grows visibly after the journal."""
        deadline = time.monotonic() + SECONDS_FOR_A_FILE
        while self._num_taken + len(self._rest) < size:
            if time.monotonic() > deadline:
                name = self._path.name
                raise ValueError(Message("{name} is shorter than {size} bytes", name=name, size=size))
            time.sleep(PATIENT_POLL_SECONDS)
            self.read()

    def _added(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._num_taken + len(self._rest))
            return file.read()

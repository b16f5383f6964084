"""A worker's connection to its driver through the run's folder, from the worker's side."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from loraloom.errors import RunError
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.run.lock import is_held
from loraloom.run.packing import packed
from loraloom.run.patience import exists_patiently, read_bytes_patiently
from loraloom.text.message import Message, said_by, to_data
from loraloom.training.checkpoint import tick_of
from loraloom.training.signals import StopRequest
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.beats import BEAT_SECONDS, Beats, Listener, replace_quickly, silence_seconds
from loraloom.workers.journal import DISMISSED, READY, RECALLED, REFUSED, Journal, ToldState
from loraloom.workers.wave_files import DRIVER_BEAT, POLL_SECONDS, WORKER_BEAT, event_file

# Events are sent together, to reduce the number of writes.
TELL_SECONDS = 0.5


class FilePost:
    """A worker's connection to its driver through files.

    Args:
        folder: folder of this worker.
        name: name of this worker in messages.
        stop: cancellation token; once it is set, the worker returns its wave and leaves the run.
    """

    def __init__(self, folder: Path, name: str, stop: StopRequest) -> None:
        self.folder, self.name, self.stop = folder, name, stop
        folder.mkdir(parents=True)
        self._run = Run(folder.parent.parent)
        self._looked, self._is_held = time.monotonic(), True
        self._driver = Listener(folder / DRIVER_BEAT)
        self._beats = Beats()
        self._beats.add(folder / WORKER_BEAT)
        self._journal = Journal(folder)
        self._journal.begin()
        self._events: list[bytes] = []
        self._index, self._event_file, self._num_event_bytes = -1, folder / event_file(-1), 0
        self._num_told, self._flushed = 0, time.monotonic()
        self._asked, self._is_recalled, self._is_refused = 0.0, False, False

    def ready(self, capacity: int, device: str) -> None:
        """Report to the driver that this worker can train.

        Raises:
            RunError: the driver has ended, or the journal cannot be written.
        """
        with self._journal_explained():
            self._journal.note(READY, {"name": self.name, "capacity": capacity, "device": device})
        self._driver = Listener(self.folder / DRIVER_BEAT)  # reading the base may have taken long

    def refuse(self, problem: str) -> None:
        """Report to the driver why this worker cannot take part."""
        self._is_refused = True
        with contextlib.suppress(OSError, ValueError):
            self._journal.note(REFUSED, {"name": self.name, "problem": to_data(problem)})

    def receive(self) -> Wave | None:
        """Wait for a wave and return it; None if the worker is dismissed or must stop, or the run has ended.

        Raises:
            RunError: the driver has ended, or does not answer, or its wave cannot be read.
        """
        while not self.stop:
            if self._is_dismissed():
                return None
            if (wave := self._next_wave()) is not None:
                return wave
            try:
                self._require_driver()
            except RunError:
                if self._is_dismissed():  # dismissed just now, as the driver's last act
                    return None
                if self._run.is_finished and not self._driver.was_heard:  # this worker joined after that
                    return None
                raise
            time.sleep(POLL_SECONDS)
        return None

    def send(self, message: WorkerMessage) -> None:
        """Send a message to the driver; events are collected and sent in batches.

        Raises:
            RunError: the driver has ended or no longer uses this worker, or writing fails.
        """
        if message.kind == "event":
            self._events.append(json.dumps(to_data(message.event)).encode() + b"\n")
            return
        self._flush()
        with self._journal_explained():
            if message.kind == "failure":
                self._journal.fail(to_data(message.problem))
                return
            self._num_told += 1
            name = f"told-{self._num_told:06d}"
            replace_quickly(self.folder / name, packed(message.files))
            told = ToldState(name, self._num_event_bytes)
            if message.kind == "end":
                self._journal.end(tick_of(message.files), told)
            else:
                self._journal.add_checkpoint(told)

    def is_recalled(self) -> bool:
        """Return whether the driver has recalled the wave, or this process was asked to stop."""
        now = time.monotonic()
        if now - self._flushed > TELL_SECONDS:
            self._flush()
            self._require_driver()
        if now - self._asked > POLL_SECONDS:
            self._asked = now
            with self._journal_explained():
                recalled = self._journal.noted(RECALLED)
            self._is_recalled = recalled is not None and recalled >= self._index
        return bool(self.stop) or self._is_recalled

    def close(self) -> None:
        """Leave the run: stop the heartbeats, let the driver read the last messages, and remove the folder.

        After a refusal, the folder stays: the driver reads the reason in it, and then removes it.
        """
        self._beats.stop()
        # The driver stops reading at a damaged line.
        is_heard = self._driver.was_heard and self._driver.silent_seconds < silence_seconds()
        is_read = is_heard and not self._journal.is_damaged
        deadline = time.monotonic() + silence_seconds()
        while is_read and self._is_unread() and time.monotonic() < deadline:
            if self._driver.silent_seconds == float("inf"):
                break
            time.sleep(POLL_SECONDS)
        if not self._is_refused:
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def _is_unread(self) -> bool:
        return any(True for pattern in ("told-*", "events-*") for _ in self.folder.glob(pattern))

    def _is_dismissed(self) -> bool:
        try:
            return self._journal.noted(DISMISSED) is not None
        except (OSError, ValueError):
            return False  # the caller looks for the driver next, or reads the journal

    def _next_wave(self) -> Wave | None:
        with self._journal_explained():
            taken = self._journal.take()
            if taken is None:
                return None
            self._index, name = taken
            self._is_recalled = False
        try:
            wave = Wave.unpacked(read_bytes_patiently(self.folder / name))
            (self.folder / name).unlink()
        except (OSError, ValueError) as error:
            self._require_driver()
            raise RunError(
                Message("{name} cannot be read ({error})", name=name, error=said_by(error)),
                where=str(self.folder),
            ) from None
        self._event_file, self._num_event_bytes = self.folder / event_file(wave.number), 0
        return wave

    def _require_driver(self) -> None:
        """Refuse to continue without a driver.

        Raises:
            RunError: the driver has ended, does not answer, or no longer uses this worker.
        """
        silence, is_there = self._driver.silent_seconds, exists_patiently(self.folder)
        # A driver that has not seen this worker yet may be evaluating, or writing its result.
        is_alive = silence < silence_seconds() if self._driver.was_heard else self._is_run_held()
        if is_there and is_alive:
            return
        raise RunError(
            Message("the process that writes the run has ended, or does not answer")
            if is_there
            else Message("the process that writes the run no longer uses this worker"),
            where=str(self.folder.parent.parent),
            fix=Message("Resume the run with --resume, then join it again."),
        )

    def _is_run_held(self) -> bool:
        """Return whether a process has the run's lock, checking at most once per second."""
        if time.monotonic() - self._looked > BEAT_SECONDS:
            self._is_held, self._looked = is_held(self._run.folder / LOCK_FILE), time.monotonic()
        return self._is_held

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        content, self._events = b"".join(self._events), []
        if content:
            with self._journal_explained(), self._event_file.open("ab") as file:
                file.write(content)
            self._num_event_bytes += len(content)

    @contextlib.contextmanager
    def _journal_explained(self) -> Iterator[None]:
        """Convert errors in reading or writing the folder to RunError; if the driver has ended, report that.

        Raises:
            RunError: the driver has ended, or the folder cannot be read or written.
        """
        try:
            yield
        except (OSError, ValueError) as error:
            self._require_driver()
            raise RunError(
                Message(
                    "the folder cannot be used to communicate with the process that writes the run ({error})",
                    error=said_by(error),
                ),
                where=str(self.folder),
                fix=Message("Join the run again."),
            ) from None

"""Workers that share the run's file system, as the driver sees them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from loraloom.run.folder import Run
from loraloom.run.packing import unpacked
from loraloom.run.patience import read_bytes_patiently
from loraloom.text.message import Message, from_data, said_by
from loraloom.training.waves import Wave, WorkerMessage
from loraloom.workers.beats import Beats, Listener, replace_quickly, silence_seconds
from loraloom.workers.journal import DISMISSED, READY, RECALLED, REFUSED, Journal
from loraloom.workers.wave_files import (
    DRIVER_BEAT,
    FOLDER,
    POLL_SECONDS,
    WORKER_BEAT,
    EventFile,
    wave_file,
)


class FileWorker:
    """A worker in a folder of the run.

    Args:
        folder: folder of the worker.
        journal: journal in this folder; the worker has reported that it is ready.
        beats: the heartbeats of this process.

    Raises:
        OSError, ValueError: the folder is gone, or the journal is damaged.
    """

    def __init__(self, folder: Path, journal: Journal, beats: Beats) -> None:
        self.folder, self.beats = folder, beats
        said = journal.noted(READY)
        self.name, self.capacity = str(said["name"]), int(said["capacity"])
        self.loss = ""
        self._journal, self._listener = journal, Listener(folder / WORKER_BEAT)
        self._polled, self._given, self._events = 0.0, -1, EventFile(folder, -1)
        # Its messages are about the wave of this index, from which `_num_checkpoints` were read.
        self._at, self._num_checkpoints = 0, 0
        self._bring_back_earlier()

    def start(self, wave: Wave) -> None:
        """Send a wave to the worker."""
        name = wave_file(wave.number)
        with self._loss_if_unwritten():
            replace_quickly(self.folder / name, wave.packed())
            self._given = self._journal.give(wave.number, name)

    def messages(self) -> Sequence[WorkerMessage]:
        """Return the worker's messages since the last call."""
        if time.monotonic() - self._polled < POLL_SECONDS:
            return ()
        # Its end is checked first, so that its last messages are read.
        silence = self._listener.silent_seconds
        found: list[WorkerMessage] = []
        try:
            found.extend(self._told())
        except (OSError, ValueError) as error:
            self.loss = Message("what the worker reported cannot be read ({error})", error=said_by(error))
        if silence == float("inf"):
            self.loss = Message("the worker's process has ended")
        elif silence > silence_seconds():
            self.loss = Message("the worker has not responded for {seconds:.0f} s", seconds=silence)
        elif self.loss and not self.folder.exists():
            self.loss = Message("the worker has left the run")
        self._polled = time.monotonic()
        return found

    def recall(self) -> None:
        """Ask the worker to return its wave after the current step."""
        with self._loss_if_unwritten():
            self._journal.note(RECALLED, self._given)

    def dismiss(self) -> None:
        """Ask the worker to end; if it was lost, remove its folder, so that its later output is ignored."""
        if not self.loss:
            with self._loss_if_unwritten():
                self._journal.note(DISMISSED, True)
        self.beats.remove(self.folder / DRIVER_BEAT)  # afterwards, because a driver without a beat has ended
        if self.loss:  # and before, because a beat may keep a folder from being removed
            shutil.rmtree(self.folder, ignore_errors=True)

    def _bring_back_earlier(self) -> None:
        """Recall the waves that an earlier driver gave to the worker; remove messages about finished ones."""
        num_earlier = self._journal.num_waves
        if num_earlier == 0:
            return
        self._journal.note(RECALLED, num_earlier - 1)
        while self._at < num_earlier and (record := self._journal.wave(self._at)).status != "open":
            for state in (*record.checkpoints, *filter(None, [record.end])):
                (self.folder / state.file).unlink(missing_ok=True)
            EventFile(self.folder, record.number).remove()
            self._at += 1
        self._given = num_earlier - 1

    def _told(self) -> Iterator[WorkerMessage]:
        """Yield the messages that have not been read yet, and remove their files."""
        while self._at <= self._given:
            # Read before the journal, which then contains every state that was sent before these events.
            size = self._events.read()
            record = self._journal.wave(self._at)
            if record.number != self._events.number:
                self._events = EventFile(self.folder, record.number)
                continue
            for state in record.checkpoints[self._num_checkpoints :]:
                self._num_checkpoints += 1
                yield from self._events.take(state.num_event_bytes)
                yield WorkerMessage("checkpoint", record.number, files=self._content(state.file))
            if record.status == "open":
                yield from self._events.take(size)
                return
            yield from self._events.take()
            if record.end is not None and record.status == "returned":
                yield from self._events.take(record.end.num_event_bytes)
                yield WorkerMessage("end", record.number, files=self._content(record.end.file))
            else:
                yield WorkerMessage("failure", record.number, problem=from_data(record.problem))
            self._events.remove()
            self._at, self._num_checkpoints = self._at + 1, 0

    def _content(self, name: str) -> dict[str, bytes]:
        content = unpacked(read_bytes_patiently(self.folder / name))
        (self.folder / name).unlink()
        return content

    @contextlib.contextmanager
    def _loss_if_unwritten(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.loss = Message(
                "the worker's folder cannot be written to: {strerror}", strerror=error.strerror
            )
        except ValueError as error:
            self.loss = Message("the worker's journal cannot be read ({error})", error=said_by(error))


class FileWorkers:
    """The workers that join a run through its folder; users can start them at any time.

    Args:
        run: the run; this process holds its lock.
    """

    num_expected = 0

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / FOLDER
        self._beats = Beats()
        self._seen: set[str] = set()
        self._waiting: dict[str, tuple[Listener, Journal]] = {}
        self._remarks: list[str] = []

    def newcomers(self) -> Sequence[FileWorker]:
        """Return the workers that have become available since the last call."""
        found: list[FileWorker] = []
        for folder in sorted(self.folder.glob("*")) if self.folder.is_dir() else []:
            if folder.name in self._seen:
                continue
            listener, journal = self._listened(folder)
            if not journal.exists:
                continue  # it is just being created, or an earlier version has left it
            try:
                if (refused := journal.noted(REFUSED)) is not None:
                    self._refuse(folder, str(refused["name"]), from_data(refused["problem"]))
                elif listener.is_alive:  # and was not left by a process that was killed
                    # Also while it reads the base: this process may be in an evaluation when it is ready.
                    self._beats.add(folder / DRIVER_BEAT)
                    if journal.noted(READY) is not None:
                        self._seen.add(folder.name)
                        del self._waiting[folder.name]
                        found.append(FileWorker(folder, journal, self._beats))
            except OSError:  # it is just being removed
                pass
            except (ValueError, LookupError, TypeError) as error:
                problem = Message("the worker's journal cannot be read ({error})", error=said_by(error))
                self._refuse(folder, folder.name, problem)
        return found

    def remarks(self) -> Sequence[str]:
        """Return notes on workers that cannot take part."""
        said, self._remarks = self._remarks, []
        return said

    def why_none(self) -> str:
        """Return "", because workers may always join."""
        return ""

    def close(self) -> None:
        """Dismiss workers that are not available yet, and stop the heartbeats."""
        for folder in self.folder.glob("*"):
            if folder.name not in self._seen:
                listener, journal = self._listened(folder)
                if listener.silent_seconds > silence_seconds():
                    shutil.rmtree(folder, ignore_errors=True)
                elif journal.exists:
                    with contextlib.suppress(OSError, ValueError):
                        journal.note(DISMISSED, True)
        self._beats.stop()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # the last worker to leave removes it

    def _listened(self, folder: Path) -> tuple[Listener, Journal]:
        """Return the listener and the journal of a worker that does not take part yet."""
        if folder.name not in self._waiting:
            self._waiting[folder.name] = Listener(folder / WORKER_BEAT), Journal(folder)
        return self._waiting[folder.name]

    def _refuse(self, folder: Path, name: str, problem: str) -> None:
        self._seen.add(folder.name)
        self._remarks.append(Message("{worker} cannot take part: {problem}", worker=name, problem=problem))
        self._beats.remove(folder / DRIVER_BEAT)
        shutil.rmtree(folder, ignore_errors=True)

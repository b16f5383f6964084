"""Waves through files, for processes that share the run's file system.

    RUN/workers/node3-4711/
      ready.json      what the worker has; written once it has the base
      refused.json    or why it cannot take part
      worker.beat     signs of life of either side (`beats.py`)
      driver.beat
      wave-000004     from the driver: a wave; `recall-000004`: bring it back; `dismissed`: end
      told-000017     from the worker: some updates; the driver removes what it has read

Each file gets its name when it is complete, and is removed by its reader. A worker writes nothing outside of
its own folder.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from loraloom.errors import RunError
from loraloom.run.folder import LOCK_FILE, Run
from loraloom.run.lock import is_held
from loraloom.run.packing import packed, unpacked
from loraloom.run.patience import exists_patiently, read_bytes_patiently
from loraloom.text.message import Message, from_data, to_data
from loraloom.training.signals import StopRequest
from loraloom.training.waves import Update, Wave
from loraloom.workers.beats import BEAT_SECONDS, Beats, Listener, replace_quickly, silence_seconds

FOLDER = "workers"
READY, REFUSED, DISMISSED = "ready.json", "refused.json", "dismissed"
WORKER_BEAT, DRIVER_BEAT = "worker.beat", "driver.beat"
POLL_SECONDS = 0.05
# Events are told together, so that few files are made.
TELL_SECONDS = 0.5


class FileWorker:
    """A worker that shares the run's file system, as the driver sees it."""

    def __init__(self, folder: Path, beats: Beats) -> None:
        self.folder, self.beats = folder, beats
        said = json.loads((folder / READY).read_bytes())
        self.name, self.capacity = str(said["name"]), int(said["capacity"])
        self.loss = ""
        self._listener = Listener(folder / WORKER_BEAT)
        self._number, self._polled = -1, 0.0

    def start(self, wave: Wave) -> None:
        """Let it train a wave."""
        self._number = wave.number
        self._write(f"wave-{wave.number:06d}", wave.packed())

    def updates(self) -> Sequence[Update]:
        """Return what it has told since the last call."""
        if time.monotonic() - self._polled < POLL_SECONDS:
            return ()
        # Whether it has ended is asked first, so that its last words are read.
        silence = self._listener.silent_seconds
        found: list[Update] = []
        for file in sorted(self.folder.glob("told-*")):
            try:
                found += [Update.unpacked(own) for own in unpacked(read_bytes_patiently(file)).values()]
                file.unlink()
            except (OSError, ValueError) as error:
                self.loss = Message("{name} cannot be read ({error})", name=file.name, error=error)
                break
        if silence == float("inf"):
            self.loss = Message("its process has ended")
        elif silence > silence_seconds():
            self.loss = Message("it has given no sign of life for {seconds:.0f} s", seconds=silence)
        self._polled = time.monotonic()
        return found

    def recall(self) -> None:
        """Ask for its wave after the present step."""
        self._write(f"recall-{self._number:06d}", b"")

    def dismiss(self) -> None:
        """Let it end; what a lost one still writes is of no use."""
        if not self.loss:
            self._write(DISMISSED, b"")
        self.beats.remove(self.folder / DRIVER_BEAT)  # afterwards, because a driver without a beat has ended
        if self.loss:  # and before, because a beat may keep a folder from being removed
            shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, content: bytes) -> None:
        try:
            replace_quickly(self.folder / name, content)
        except OSError as error:
            self.loss = Message("its folder cannot be written: {strerror}", strerror=error.strerror)


class FileWorkers:
    """The workers in a run's folder, which come whenever somebody starts them.

    Args:
        run: the run; this process has its lock.
    """

    num_expected = 0

    def __init__(self, run: Run) -> None:
        self.folder = run.folder / FOLDER
        self._beats = Beats()
        self._seen: set[str] = set()
        self._waiting: dict[str, Listener] = {}
        self._remarks: list[str] = []

    def newcomers(self) -> Sequence[FileWorker]:
        """Return the workers that have come since the last call."""
        found: list[FileWorker] = []
        for folder in sorted(self.folder.glob("*")) if self.folder.is_dir() else []:
            if folder.name in self._seen:
                continue
            listener = self._waiting.setdefault(folder.name, Listener(folder / WORKER_BEAT))
            with contextlib.suppress(OSError, ValueError, KeyError):  # it is just being removed
                if (folder / REFUSED).exists():
                    self._seen.add(folder.name)
                    said = json.loads((folder / REFUSED).read_bytes())
                    self._remarks.append(
                        Message(
                            "{worker} cannot take part: {problem}",
                            worker=said["name"],
                            problem=from_data(said["problem"]),
                        )
                    )
                    self._beats.remove(folder / DRIVER_BEAT)
                    shutil.rmtree(folder, ignore_errors=True)
                elif listener.is_alive:  # and was not left by a process that was killed
                    # Also while it reads the base: this process may be in an evaluation when it is ready.
                    self._beats.add(folder / DRIVER_BEAT)
                    if (folder / READY).exists():
                        self._seen.add(folder.name)
                        found.append(FileWorker(folder, self._beats))
        return found

    def remarks(self) -> Sequence[str]:
        """Return who cannot take part, and why."""
        said, self._remarks = self._remarks, []
        return said

    def why_none(self) -> str:
        """Return nothing: somebody may come."""
        return ""

    def close(self) -> None:
        """Dismiss those that have not come yet, and give no signs of life any more."""
        for folder in self.folder.glob("*"):
            if folder.name not in self._seen:
                if Listener(folder / WORKER_BEAT).silent_seconds == float("inf"):
                    shutil.rmtree(folder, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        replace_quickly(folder / DISMISSED, b"")
        self._beats.stop()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # the last one to leave removes it


class FilePost:
    """The connection to the driver through files, as the worker sees it.

    Args:
        folder: of this worker.
        name: of this worker in messages.
        stop: asks this process to give its wave back and to end.
    """

    def __init__(self, folder: Path, name: str, stop: StopRequest) -> None:
        self.folder, self.name, self.stop = folder, name, stop
        folder.mkdir(parents=True)
        self._run = Run(folder.parent.parent)
        self._looked, self._is_held = time.monotonic(), True
        self._driver = Listener(folder / DRIVER_BEAT)
        self._beats = Beats()
        self._beats.add(folder / WORKER_BEAT)
        self._buffer: list[Update] = []
        self._number, self._told, self._flushed = -1, 0, time.monotonic()

    def ready(self, capacity: int, device: str) -> None:
        """Tell the driver that this worker can train."""
        said = {"name": self.name, "capacity": capacity, "device": device}
        replace_quickly(self.folder / READY, json.dumps(said).encode())
        self._driver = Listener(self.folder / DRIVER_BEAT)  # reading the base may have taken long

    def refuse(self, problem: str) -> None:
        """Tell the driver why this worker cannot take part."""
        said = {"name": self.name, "problem": to_data(problem)}
        with contextlib.suppress(OSError):
            replace_quickly(self.folder / REFUSED, json.dumps(said).encode())

    def receive(self) -> Wave | None:
        """Wait for a wave; None if the worker is dismissed or asked to stop, or if the run has finished.

        Raises:
            RunError: the driver has ended, or does not answer, or its wave cannot be read.
        """
        while not self.stop:
            if exists_patiently(self.folder / DISMISSED):
                return None
            if (wave := self._next_wave()) is not None:
                self._number = wave.number
                return wave
            try:
                self._require_driver()
            except RunError:
                if exists_patiently(self.folder / DISMISSED):  # written just now, as its last act
                    return None
                if self._run.is_finished and not self._driver.was_heard:  # this worker came after that
                    return None
                raise
            time.sleep(POLL_SECONDS)
        return None

    def _next_wave(self) -> Wave | None:
        name = "wave-*"
        try:
            for file in sorted(self.folder.glob(name)):
                name = file.name
                wave = Wave.unpacked(read_bytes_patiently(file))
                file.unlink()
                return wave
        except FileNotFoundError:  # the driver is removing the folder
            pass
        except (OSError, ValueError) as error:
            raise RunError(
                Message("{name} cannot be read ({error})", name=name, error=error), where=str(self.folder)
            ) from None
        return None

    def send(self, update: Update) -> None:
        """Tell the driver something; events are told together."""
        self._buffer.append(update)
        if update.kind != "event":
            self._flush()

    def is_recalled(self) -> bool:
        """Return whether the driver wants the wave back, or this process is to stop."""
        if time.monotonic() - self._flushed > TELL_SECONDS:
            self._flush()
            self._require_driver()
        return bool(self.stop) or exists_patiently(self.folder / f"recall-{self._number:06d}")

    def close(self) -> None:
        """Leave: give no signs of life any more, and remove the folder unless the driver is to read it."""
        self._beats.stop()
        is_read = self._driver.was_heard and self._driver.silent_seconds < silence_seconds()
        deadline = time.monotonic() + silence_seconds()
        while is_read and any(self.folder.glob("told-*")) and time.monotonic() < deadline:
            if self._driver.silent_seconds == float("inf"):
                break
            time.sleep(POLL_SECONDS)
        if not (self.folder / REFUSED).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def _require_driver(self) -> None:
        """Refuse to continue without a driver.

        Raises:
            RunError: it has ended, or does not answer.
        """
        silence, is_there = self._driver.silent_seconds, exists_patiently(self.folder)
        # A driver that has not seen this worker yet may be in an evaluation, or write its result.
        is_alive = silence < silence_seconds() if self._driver.was_heard else self._is_run_held()
        if is_there and is_alive:
            return
        raise RunError(
            Message("the process that writes the run has ended, or does not answer")
            if is_there
            else Message("the process that writes the run does not use this worker any more"),
            where=str(self.folder.parent.parent),
            fix=Message("Resume the run with --resume, then join it again."),
        )

    def _is_run_held(self) -> bool:
        """Return whether a process has the run's lock, asked once a second at most."""
        if time.monotonic() - self._looked > BEAT_SECONDS:
            self._is_held, self._looked = is_held(self._run.folder / LOCK_FILE), time.monotonic()
        return self._is_held

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if not self._buffer:
            return
        content = packed({str(number): update.packed() for number, update in enumerate(self._buffer)})
        self._buffer = []
        self._told += 1
        try:
            replace_quickly(self.folder / f"told-{self._told:06d}", content)
        except FileNotFoundError:
            self._require_driver()
            raise

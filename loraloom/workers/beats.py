"""Heartbeats between processes that share a file system, and detection of processes that have ended.

A process replaces its heartbeat file every second. The reader notes, by its own clock, when the content
changes, so the clocks of the machines need not agree. If the other process is on the same machine, the reader
also asks the operating system, which reports immediately that the process has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from pathlib import Path

import psutil

from loraloom.run.atomic import staged_path

BEAT_SECONDS = 1.0
SILENCE_VARIABLE = "LORALOOM_WORKER_TIMEOUT"
SILENCE_SECONDS = 60.0


def silence_seconds() -> float:
    """Return how many seconds a process may go without a new heartbeat before it counts as lost."""
    try:
        return max(2 * BEAT_SECONDS, float(os.environ.get(SILENCE_VARIABLE, SILENCE_SECONDS)))
    except ValueError:
        return SILENCE_SECONDS


def machine() -> str:
    """Return an id that distinguishes this machine or container from others that share the file system."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        namespace = ""
    return f"{platform.node()} {namespace}"


def replace_quickly(path: Path, content: bytes) -> None:
    """Replace a file atomically, without waiting for the disk: its content need not survive a crash.

    Renaming also makes a network file system read the folder again; without it, a cached copy of the
    folder may be used for up to a minute.
    """
    staged = staged_path(path)
    staged.write_bytes(content)
    os.replace(staged, path)


class Beats:
    """A thread that writes heartbeats to files until it is stopped."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, file: Path) -> None:
        """Start writing heartbeats to a file."""
        if file in self._files:
            return
        self._files.append(file)
        self._beat(file)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
            self._thread.start()

    def remove(self, file: Path) -> None:
        """Stop writing heartbeats to a file."""
        self._files = [own for own in self._files if own != file]

    def stop(self) -> None:
        """Stop writing heartbeats, and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            for file in self._files:
                self._beat(file)

    def _beat(self, file: Path) -> None:
        own = psutil.Process()
        sign = {"machine": machine(), "pid": own.pid, "started": own.create_time(), "time": time.time()}
        with contextlib.suppress(OSError):  # the folder is gone, and so is its reader
            replace_quickly(file, json.dumps(sign).encode())


class Listener:
    """The heartbeats of another process, read from a file.

    Args:
        file: the file to which the other process writes its heartbeats.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._content, self._num_signs = b"", 0
        self._heard = time.monotonic()

    @property
    def was_heard(self) -> bool:
        """Whether at least one heartbeat of the process has been read."""
        self._read()
        return bool(self._content)

    @property
    def is_alive(self) -> bool:
        """Whether a second heartbeat of the process has been read, or the process runs on this machine."""
        self._read()
        return self._num_signs > 1 or self._is_running() is True

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last new heartbeat was read; infinity if the process is known to have ended."""
        self._read()
        if self._is_running() is False:
            return float("inf")
        return time.monotonic() - self._heard

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            content = self.file.read_bytes()
            if content != self._content:
                self._content, self._heard = content, time.monotonic()
                self._num_signs += 1

    def _is_running(self) -> bool | None:
        """Return whether the process runs; None if it is on another machine, or no valid heartbeat exists."""
        try:
            sign = json.loads(self._content or b"{}")
            if sign.get("machine") != machine():
                return None
            process = psutil.Process(sign["pid"])
            is_same = abs(process.create_time() - sign["started"]) < 1
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except (ValueError, TypeError, KeyError, AttributeError):  # damaged: it counts as silent later
            return None

"""The training process's handle on a tracker process, which receives events through a bounded queue.

Only `end` and `wait` wait for the tracker, and only until a deadline.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from loraloom.run.events import Event
from loraloom.run.own_process import module_command, module_environment
from loraloom.text.message import Message, to_data

# About 20 MB; a tracker that is this far behind misses events, which events.jsonl has anyway.
MAX_WAITING = 50_000
_LAST_CHARACTERS = 400
# Trackers collect usage statistics, and some wait for that when they end.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}


class TrackerProcess:
    """A process that writes a run's events to a tracker.

    Args:
        tracker: name of the tracker.
        start: the first line to send to the process, see `tracker_process.py`.
        log_file: file that receives what the tracker prints.
    """

    def __init__(self, tracker: str, start: Mapping[str, Any], log_file: Path) -> None:
        self.tracker = tracker
        self._log_file = log_file
        self._queue: queue.Queue[Event | str] = queue.Queue(MAX_WAITING)
        self._answers: deque[dict[str, str]] = deque()
        self._ending = ""
        self._num_missed = 0
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                module_command("loraloom.trackers.tracker_process"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is meant for the training, which then ends the tracker
                env=module_environment(**ENVIRONMENT),
            )
        self._queue.put(json.dumps({"tracker": tracker, **start}))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._write, daemon=True).start()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def send(self, event: Event) -> None:
        """Queue an event for the tracker; drop and count it if too many are waiting."""
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._num_missed += 1

    def answers(self) -> list[dict[str, str]]:
        """Return the messages that the process has sent since the last call."""
        found = []
        while self._answers:
            found.append(self._answers.popleft())
        return found

    def end(self, ending: str, deadline: float) -> None:
        """Ask the process to close its runs and to end.

        Args:
            ending: how the training ended.
            deadline: time, on the monotonic clock, until which to wait for a place in the queue.
        """
        if not self._ending:
            self._ending = json.dumps({"ending": ending})
            with contextlib.suppress(queue.Full):
                self._queue.put(self._ending, timeout=max(0.0, deadline - time.monotonic()))

    def wait(self, deadline: float) -> str:
        """Wait until the process has ended; kill it at the deadline.

        Returns:
            Why the tracker has not received everything, or "" if it has.
        """
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            return Message("it had not written everything when the training ended, and was stopped")
        self._reader.join(1)
        if self._num_missed:
            return Message("it was too slow and missed {num_missed} events", num_missed=self._num_missed)
        return "" if code == 0 else self._death(code)

    def kill(self) -> None:
        """Kill the process and its children, unless it has ended."""
        if self._process.poll() is not None:  # its id may belong to another process by now
            return
        own: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            own = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for each in own:
            with contextlib.suppress(psutil.Error):
                each.kill()
        self._process.wait()

    # Each pipe is closed by the thread that uses it: if a child of a dead tracker holds the other end, it
    # stays blocked, and so would any thread that closes its pipe.

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError), pipe:  # the process is gone, which `_read` reports
            while True:
                item = self._queue.get()
                line = item if isinstance(item, str) else json.dumps(to_data(item.to_json()))
                pipe.write(line + "\n")
                pipe.flush()
                if line is self._ending:
                    return

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with contextlib.suppress(OSError, ValueError), pipe:
            for line in pipe:
                self._answers.append(json.loads(line))
        if not self._ending:
            code = self._process.wait()
            self._answers.append({"problem": self._death(code)})

    def _death(self, code: int) -> str:
        said = self._log_file.read_text(encoding="utf-8", errors="replace")[-_LAST_CHARACTERS:].strip()
        last = said.rpartition("\n")[2] or "–"
        return Message("its process ended with code {code}: {last}", code=code, last=last)

"""The log of a run in progress, read incrementally: each call parses only the new lines."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.run.events import Event, EventLog

MOST_BYTES_AT_ONCE = 64 << 20


@dataclass
class LiveLog:
    """The events of a log that another process may be writing.

    Args:
        path: the log file.
    """

    path: Path
    _log: EventLog = field(default_factory=EventLog)
    _position: int = 0
    _identity: tuple[int, int] = (0, 0)
    _rest: bytes = b""
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def read(self) -> list[Event]:
        """Return all events so far, in order, as `read_events` does."""
        with self._mutex:
            with contextlib.suppress(OSError):  # there is no log before the first event
                self._read_new()
            return self._log.events

    def _read_new(self) -> None:
        with self.path.open("rb") as file:
            stat = self.path.stat()
            identity = (stat.st_dev, stat.st_ino)
            if (
                identity != self._identity or stat.st_size < self._position
            ):  # replaced, by a repair for example
                self._log, self._position, self._rest, self._identity = EventLog(), 0, b"", identity
            file.seek(self._position)
            while new := file.read(MOST_BYTES_AT_ONCE):
                self._position += len(new)
                *lines, self._rest = (self._rest + new).split(b"\n")
                for line in lines:
                    self._log.add(line.decode("utf-8", errors="replace"))

"""SIGINT and SIGTERM: finish the step, save, leave; a second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether a signal asked to stop.

    Args:
        signal_number: the signal, or 0.
    """

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """While it lasts, the first SIGINT or SIGTERM sets the request and the second ends the process.

    In a thread other than the main one Python delivers no signals; the request then stays unset.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if request:
            os._exit(128 + number)
        request.signal_number = number

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

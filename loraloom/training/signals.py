"""Requests to stop, by SIGINT, SIGTERM or a program: finish the step, save, leave.

A second signal leaves at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from loraloom.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _LeaveNow(BaseException):
    """Not an `Exception`: a library that tries something (`except Exception`) must not swallow it."""


@dataclass
class StopRequest:
    """A token that asks a verb to stop; whoever holds it may set it, from any thread.

    Args:
        signal_number: the signal that asked, or 0.
        leaves_at_once: there is nothing to finish or to save yet, so a signal need not wait.
        is_set: whether a program asked.
    """

    signal_number: int = 0
    leaves_at_once: bool = False
    is_set: bool = False

    def stop(self) -> None:
        """Ask the verb to finish its step, save, and raise `Interrupted`."""
        self.is_set = True

    def raise_if_set(self, message: str) -> None:
        """Leave a verb that has nothing to finish.

        Raises:
            Interrupted: somebody asked to stop.
        """
        if self:
            raise Interrupted(self.signal_number, message)

    def __bool__(self) -> bool:
        return self.is_set or self.signal_number != 0


@contextmanager
def stop_on_signals(
    stop: StopRequest | None = None, *, leaves_at_once: bool = False
) -> Iterator[StopRequest]:
    """While it lasts, the first SIGINT or SIGTERM sets the request and the second ends the process.

    In a thread other than the main one Python delivers no signals; the request then stays unset.

    Args:
        stop: the caller's own token; signals are then the caller's affair, and no handler is installed.
        leaves_at_once: at the first signal too, until the request says otherwise: loading a large base
            takes longer than anybody waits for a process to end.

    Raises:
        Interrupted: it left at once.
    """
    if stop is not None:
        yield stop
        return
    with _request(leaves_at_once) as request:
        try:
            yield request
        except BaseException:
            # Whatever came of it: libraries turn what is raised while they are imported into other errors.
            if request and request.leaves_at_once:
                raise Interrupted(request.signal_number, "stopped before the first step") from None
            raise


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """For a whole command: outside of `stop_on_signals` the first signal ends it, with what to say.

    Raises:
        Interrupted: a signal came.
    """
    with _request(leaves_at_once=True) as request:
        try:
            yield
        except BaseException:
            if request:
                name = signal.Signals(request.signal_number).name
                raise Interrupted(request.signal_number, f"stopped by {name} before it was done") from None
            raise


@contextmanager
def _request(leaves_at_once: bool) -> Iterator[StopRequest]:
    request = StopRequest(leaves_at_once=leaves_at_once)
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if request:
            os._exit(128 + number)
        request.signal_number = number
        if request.leaves_at_once:
            raise _LeaveNow

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Cancellation: after SIGINT, SIGTERM or a program's request, a command finishes its step, saves, and ends.

A second signal ends the process at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from loraloom.errors import Interrupted
from loraloom.run.folder import Run
from loraloom.text.message import Message

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _LeaveNow(BaseException):
    """The command must end at once; a `BaseException`, so that no `except Exception` catches it."""


@dataclass
class StopRequest:
    """A cancellation token, which asks a command to stop; it may be set from any thread.

    Args:
        signal_number: the signal that arrived, or 0.
        leaves_at_once: whether a signal ends the command at once, because there is nothing to save yet.
        is_set: whether a program asked to stop.
    """

    signal_number: int = 0
    leaves_at_once: bool = False
    is_set: bool = False

    def stop(self) -> None:
        """Ask the command to finish its step, save, and raise `Interrupted`."""
        self.is_set = True

    @property
    def has_arrived(self) -> bool:
        """Whether this process was asked to stop, even if other ranks of a training do not know yet."""
        return self.is_set or self.signal_number != 0

    def raise_if_set(self, message: str) -> None:
        """End a command that has nothing to finish, if it was asked to stop.

        Args:
            message: what happened, for the user.

        Raises:
            Interrupted: it was asked to stop.
        """
        if self:
            raise Interrupted(self.signal_number, message)

    def __bool__(self) -> bool:
        return self.has_arrived


class AgreedStop(StopRequest):
    """A cancellation token that the ranks of a training agree on, so that all stop after the same step.

    Args:
        own: this process's own token.
    """

    def __init__(self, own: StopRequest) -> None:
        super().__init__()
        self.own = own
        self.is_agreed = False

    @property
    def has_arrived(self) -> bool:
        """Whether this process was asked to stop."""
        return self.own.has_arrived

    def agree(self, signal_numbers: Sequence[int | None]) -> None:
        """Set the token if any rank was asked to stop.

        Args:
            signal_numbers: for each rank, the signal that arrived; 0 if a program asked it to stop, None if
                nothing did.
        """
        asked = [number for number in signal_numbers if number is not None]
        self.is_agreed = self.is_agreed or bool(asked)
        self.signal_number = max([self.signal_number, *asked])

    def __bool__(self) -> bool:
        return self.is_agreed


@contextmanager
def stop_on_signals(
    stop: StopRequest | None = None,
    *,
    leaves_at_once: bool = False,
    early: str = Message("stopped before the first step"),
) -> Iterator[StopRequest]:
    """In a `with` block, set a cancellation token when SIGINT or SIGTERM arrives.

    A second signal ends the process at once. Python delivers signals only to the main thread; in any other
    thread, no signal sets the token.

    Args:
        stop: the caller's own token; if given, no handler is installed, and the caller handles signals.
        leaves_at_once: whether the first signal ends the command at once, for example while a large base is
            loaded; the command sets the token's `leaves_at_once` to False when it has something to save.
        early: message for the user if the first signal ended the command at once.

    Raises:
        Interrupted: a signal ended the command at once.
    """
    if stop is not None:
        yield stop
        return
    with _request(leaves_at_once) as request:
        try:
            yield request
        except BaseException:
            # Any exception, because libraries convert exceptions that are raised while they are imported.
            if request and request.leaves_at_once:
                raise Interrupted(request.signal_number, early) from None
            raise


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """End a command at the first signal, with a message, while no `stop_on_signals` is active.

    Raises:
        Interrupted: a signal arrived.
    """
    with _request(leaves_at_once=True) as request:
        try:
            yield
        except BaseException:
            if request:
                name = signal.Signals(request.signal_number).name
                raise Interrupted(
                    request.signal_number, Message("stopped by {name} before it finished", name=name)
                ) from None
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


def interruption(run: Run, step: int, signal_number: int) -> Interrupted:
    """Return the exception to raise when training was asked to stop and everything is saved."""
    return Interrupted(
        signal_number,
        Message(
            "stopped and saved after step {step}; `loraloom train --resume {folder}` continues, bit for bit",
            step=step,
            folder=shlex.quote(str(run.folder)),
        ),
    )

"""Exclusive use of a base, because all its users share its mode, dropouts and wrapped linears."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loraloom.errors import BankError
from loraloom.text.message import Message

_OTHER_THREAD = Message(
    "Use a base in only one thread at a time: answer the rows of all adapters in one pass, let other threads "
    "wait, or load a base for each thread."
)
_OPEN_ROWS = Message(
    "Leave the first `with bank.rows(...)` before the next one starts; a generator or "
    "coroutine that pauses inside it keeps it open."
)


class Occupancy:
    """A record of which thread uses a base, and whether a pass is open; any other use is refused at once.

    Each pass belongs to its own thread (`current_pass.py`), but a second thread still could not run a pass
    at the same time: it would attach and drop adapters, or set eval mode, during the first thread's pass.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._num_claims = 0
        self._in_pass = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Make copies unoccupied: nothing uses the copy of a base yet."""
        return Occupancy, ()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Exclude other threads during a `with` block; the same thread may claim the base again.

        Raises:
            BankError: another thread uses the base.
        """
        with self._lock:
            if self._num_claims and self._thread != threading.get_ident():
                raise BankError(Message("another thread is using this base"), fix=_OTHER_THREAD)
            self._thread = threading.get_ident()
            self._num_claims += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_claims -= 1

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Claim the base for a pass during a `with` block; only one pass can be open at a time.

        Raises:
            BankError: another thread uses the base, or a pass is already open.
        """
        with self.change(Message("a pass is already open")):
            self._in_pass = True
            try:
                yield
            finally:
                self._in_pass = False

    @contextmanager
    def change(self, refusal: str) -> Iterator[None]:
        """Claim the base during a `with` block, for an operation that must not happen during a pass.

        Args:
            refusal: the message if a pass is open.

        Raises:
            BankError: another thread uses the base, or a pass is open.
        """
        with self.claim():
            if self._in_pass:
                raise BankError(refusal, fix=_OPEN_ROWS)
            yield

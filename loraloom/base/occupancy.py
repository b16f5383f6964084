"""One user at a time of a base: all who use it share its mode, its dropouts and its wrapped linears."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loraloom.errors import BankError

_OTHER_THREAD = (
    "Let one thread at a time use a base: answer all adapters' rows in one pass, queue the others, or load a "
    "base for each thread."
)
_OPEN_ROWS = (
    "Leave the first `with bank.rows(...)` before the next one begins: a generator or coroutine that stops "
    "inside it keeps it open."
)


class Occupancy:
    """Which thread uses a base, and whether a pass over it is open; a second user is refused at the start.

    A pass is its own thread's (`current_pass.py`), and yet a second thread could not have one beside it: it
    would attach and drop adapters, or set eval mode, under the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._num_claims = 0
        self._in_pass = False

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a base is used by nobody yet."""
        return Occupancy, ()

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other threads away while it lasts; the same thread may claim again.

        Raises:
            BankError: another thread uses the base.
        """
        with self._lock:
            if self._num_claims and self._thread != threading.get_ident():
                raise BankError("another thread is using this base", fix=_OTHER_THREAD)
            self._thread = threading.get_ident()
            self._num_claims += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_claims -= 1

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """A claim in which the rows of passes are set; there is one of them at a time.

        Raises:
            BankError: another thread uses the base, or rows are set already.
        """
        with self.change("the rows of a pass are set already"):
            self._in_pass = True
            try:
                yield
            finally:
                self._in_pass = False

    @contextmanager
    def change(self, refusal: str) -> Iterator[None]:
        """A claim for what must not happen while the rows of a pass are set.

        Args:
            refusal: what to say if they are.

        Raises:
            BankError: another thread uses the base, or rows are set.
        """
        with self.claim():
            if self._in_pass:
                raise BankError(refusal, fix=_OPEN_ROWS)
            yield

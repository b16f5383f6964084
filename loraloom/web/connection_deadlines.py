"""Deadlines for a client to send the head of a request and to read answers, so that slow ones are cut off."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 15.0
READ_SECONDS = 30.0
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class ConnectionWithDeadlines(H11Protocol):
    """uvicorn's protocol with deadlines; uvicorn itself has a deadline only for idle connections.

    A request's head must arrive within `HEAD_SECONDS` after the connection is made or the head begins. A
    client that leaves more than one buffer of data unread for `READ_SECONDS` is disconnected, so that its
    answers are no longer generated.
    """

    is_answered = False  # whether the connection had an answer before this protocol received it
    _head: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Set the deadline for the first head, or for an idle connection if a request has been answered."""
        super().connection_made(transport)
        if self.is_answered:  # as uvicorn does after an answer
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Process a part of a request; end the deadline for its head once the head is complete."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        else:
            self._stop(self._head)
            self._head = None

    def pause_writing(self) -> None:
        """Set the deadline by which the client must have read what was sent."""
        super().pause_writing()
        self._reading = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """End the deadline for reading, because the client has read enough."""
        super().resume_writing()
        self._stop(self._reading)

    def connection_lost(self, exc: Exception | None) -> None:
        """End both deadlines, because the connection is closed."""
        self._stop(self._head)
        self._stop(self._reading)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(TOO_SLOW)
            self.transport.close()

    def _stop(self, timer: Any) -> None:
        if timer is not None:
            timer.cancel()

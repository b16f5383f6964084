"""A limit on the size of a request's body, and on the time that a client may take to send it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

MOST_DISCARDED = 16 << 20
DISCARD_SECONDS = 2.0

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class BoundedBody:
    """ASGI `receive` and `send` of one request, which limit how large its body is and how long it may take.

    If the body is too large or too slow, the client immediately gets the answer that `refuse` sends, and the
    application receives a disconnection; whatever it sends afterwards is dropped. A body of unstated length
    (chunked) is therefore cut off too, however the application handles errors.

    Args:
        receive, send: the server's functions.
        max_bytes: maximum size of the body.
        seconds: maximum duration of the whole body.
        refuse: sends the error response with the given status, 413 or 408.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        max_bytes: int,
        seconds: float,
        refuse: Callable[[int], Awaitable[None]],
    ) -> None:
        self._receive, self._send = receive, send
        self._max_bytes, self._deadline = max_bytes, time.monotonic() + seconds
        self._refuse = refuse
        self._num_bytes = 0
        self._is_complete = self._is_refused = self._has_started = False

    async def receive(self) -> Event:
        """Return the next part of the body, or a disconnection if the client has left or was refused."""
        if self._is_refused:
            return {"type": "http.disconnect"}
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                event = await self._receive()
        except TimeoutError:
            return await self._cut_off(408)
        if event["type"] == "http.request":
            self._num_bytes += len(event.get("body", b""))
            self._is_complete = not event.get("more_body", False)
            if self._num_bytes > self._max_bytes:
                return await self._cut_off(413)
        return event

    async def send(self, event: Event) -> None:
        """Pass on what the application sends, unless the request was refused."""
        if not self._is_refused:
            self._has_started = True
            await self._send(event)

    async def _cut_off(self, status: int) -> Event:
        self._is_refused = True
        if not self._has_started:
            await self._refuse(status)
        return {"type": "http.disconnect"}


async def discard(receive: Receive) -> None:
    """Read and discard the rest of a refused request, up to a limit on its size and the time.

    A connection that is closed with unread data is reset, and the client may lose the answer.
    """
    num_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while num_bytes <= MOST_DISCARDED:
                event = await receive()
                num_bytes += len(event.get("body", b""))
                if event["type"] != "http.request" or not event.get("more_body", False):
                    return

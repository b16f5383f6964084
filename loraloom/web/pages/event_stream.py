"""Server-sent events: named HTML fragments that a page inserts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

SILENT_SECONDS = 15.0
HEARTBEAT = ": still here\n\n"


def event(name: str, data: str) -> str:
    """Format one event; a line break in the data begins another `data:` line.

    >>> event("live", "<p>\\none</p>")
    'event: live\\ndata: <p>\\ndata: one</p>\\n\\n'
    """
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return f"event: {name}\n" + "".join(f"data: {line}\n" for line in lines) + "\n"


def event_stream(events: AsyncIterator[str]) -> StreamingResponse:
    """Create a response that sends events as they arrive."""
    return StreamingResponse(
        _with_heartbeat(events), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _with_heartbeat(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Pass events on; if none arrives for a while, send a comment, to detect that the client has left."""
    waiting: asyncio.Future[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([waiting], timeout=SILENT_SECONDS)
            if not done:
                yield HEARTBEAT
                continue
            finished, waiting = waiting, None
            try:
                yield finished.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None:
            waiting.cancel()

"""Turns (iterations) of the event loop: each request that takes long to process gets its own."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets one task continue in each turn of the event loop, in order of arrival.

    Otherwise, if a hundred requests arrive together, asyncio starts all of them in one turn, and a later
    request, such as `/health`, waits for them all. The loop looks for new requests only between two turns.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for a turn."""
        async with self._lock:
            await asyncio.sleep(0)

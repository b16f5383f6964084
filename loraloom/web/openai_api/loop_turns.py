"""Turns of the event loop, of which each request that costs time takes one of its own."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets one task continue in each turn of the event loop, in the order in which they came.

    Of a hundred requests that arrive together, asyncio begins all in one turn, and what arrives after them,
    such as `/health`, waits for all. Between two turns the loop looks for what has arrived.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for a turn."""
        async with self._lock:
            await asyncio.sleep(0)

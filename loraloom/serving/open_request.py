"""A request in progress, as the server sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from loraloom.serving.job import JobError

Event = dict[str, Any]


class Answering:
    """A request in progress.

    Args:
        id: id of the request.
        release: called once when the request is no longer needed.
    """

    def __init__(self, id: int, release: Callable[[Answering, bool], None]) -> None:
        self.id = id
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.num_open = 0  # answers that the model has not finished
        self._release = release
        self._is_over = False

    async def next(self) -> Event:
        """Return the next event.

        Raises:
            JobError: the request cannot be answered, or the model process has ended.
        """
        event = await self.events.get()
        if "error" in event:
            self.close(is_answered=True)
            raise JobError.from_json(event["error"])
        return event

    def close(self, *, is_answered: bool = False) -> None:
        """Stop generating, unless all answers are complete."""
        if not self._is_over:
            self._is_over = True
            self._release(self, is_answered)

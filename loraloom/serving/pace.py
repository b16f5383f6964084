"""The rate at which requests are answered, to tell refused clients when to try again."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

LEAST_SECONDS, MOST_SECONDS = 2, 60
REMEMBERED, WINDOW_SECONDS = 64, 30.0  # the latest answered requests


class Pace:
    """The times of the latest answered requests.

    Args:
        now: returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._next_turn = 0.0  # when the client that was refused last should ask again

    def count(self) -> None:
        """Record that a request was answered."""
        self._times.append(self._now())

    def seconds_until(self, number: int) -> int:
        """Return the number of seconds after which a refused client should try again, from 2 to 60.

        Each further client gets a later time, at the rate at which requests are answered; otherwise all of
        them would return at the same time, and most would find the queue full again.

        Args:
            number: number of requests in progress, which are answered first.
        """
        now = self._now()
        while self._times and self._times[0] < now - WINDOW_SECONDS:
            self._times.popleft()
        if len(self._times) < 2:
            return LEAST_SECONDS
        seconds_of_one = (now - self._times[0]) / len(self._times)
        self._next_turn = max(self._next_turn + seconds_of_one, now + seconds_of_one * number)
        self._next_turn = min(self._next_turn, now + MOST_SECONDS)
        return max(math.ceil(self._next_turn - now), LEAST_SECONDS)

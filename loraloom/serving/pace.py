"""How fast requests are answered, for clients that ask when to try again."""

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
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque(maxlen=REMEMBERED)
        self._next_turn = 0.0  # when the client that was refused last should ask again

    def count(self) -> None:
        """Note that a request was answered."""
        self._times.append(self._now())

    def seconds_until(self, number: int) -> int:
        """Return when one more client should ask again, in whole seconds within bounds.

        Each call is a client that was refused: they are told times one after the other, as many a second as
        requests are answered, so that they do not all come back to a queue that is full again.

        Args:
            number: requests under way, which are answered before.
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

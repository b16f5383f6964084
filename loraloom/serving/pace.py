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

    def count(self) -> None:
        """Note that a request was answered."""
        self._times.append(self._now())

    def seconds_until(self, number: int) -> int:
        """Return the whole seconds that so many requests take, within bounds."""
        now = self._now()
        while self._times and self._times[0] < now - WINDOW_SECONDS:
            self._times.popleft()
        if len(self._times) < 2:
            return LEAST_SECONDS
        seconds_of_one = (now - self._times[0]) / len(self._times)
        return min(max(math.ceil(seconds_of_one * number), LEAST_SECONDS), MOST_SECONDS)

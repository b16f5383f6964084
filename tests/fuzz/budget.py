"""How far fuzzing goes: some seconds in the suite, as many examples as LORALOOM_FUZZ says by `make fuzz`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("LORALOOM_FUZZ", "0"))
SECONDS_OF_A_HANG = 5.0


def budget(examples: int) -> settings:
    """Settings of a property: so many examples, the same every time; by `make fuzz` others, and more."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


class HangError(BaseException):
    """It took longer than any input may; no `except Exception` on the way may keep it."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail what takes more than five seconds, wherever it is."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise HangError(f"more than {SECONDS_OF_A_HANG:.0f} seconds")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_OF_A_HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refusal(error: type[Exception], act: Callable[[], Any]) -> str | None:
    """Act within the time: the message of the one exception that may come, or None where none does."""
    with no_hang():
        try:
            act()
        except error as told:
            return str(told)
    return None

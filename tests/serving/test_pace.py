"""When a refused client is told to try again."""

from __future__ import annotations

from loraloom.serving.pace import MOST_SECONDS, Pace


def test_it_is_the_time_that_the_queue_takes_within_bounds() -> None:
    times = iter([0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 100.0])
    pace = Pace(lambda: next(times))
    assert pace.seconds_until(1000) == 2
    for _ in range(4):
        pace.count()
    assert pace.seconds_until(20) == 10  # four requests took two seconds
    assert pace.seconds_until(1) == 2
    assert pace.seconds_until(1000) == MOST_SECONDS
    assert pace.seconds_until(1000) == 2  # what was long ago says nothing

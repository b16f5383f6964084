"""When a refused client is told to try again."""

from __future__ import annotations

from loraloom.serving.pace import MOST_SECONDS, Pace


class Clock:
    """A time that stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def four_answers_in_two_seconds() -> tuple[Clock, Pace]:
    clock = Clock()
    pace = Pace(clock)
    for clock.now in (0.0, 0.5, 1.0, 1.5):
        pace.count()
    clock.now = 2.0
    return clock, pace


def test_it_is_the_time_that_the_queue_takes_within_bounds() -> None:
    assert Pace(Clock()).seconds_until(1000) == 2
    assert four_answers_in_two_seconds()[1].seconds_until(20) == 10
    assert four_answers_in_two_seconds()[1].seconds_until(1) == 2
    assert four_answers_in_two_seconds()[1].seconds_until(1000) == MOST_SECONDS


def test_refused_clients_come_back_one_after_the_other() -> None:
    _, pace = four_answers_in_two_seconds()
    assert [pace.seconds_until(20) for _ in range(5)] == [10, 11, 11, 12, 12]


def test_turns_never_lie_beyond_the_bound_and_end_with_the_queue() -> None:
    clock, pace = four_answers_in_two_seconds()
    assert [pace.seconds_until(100) for _ in range(40)][-1] == MOST_SECONDS
    clock.now = 25.0
    assert pace.seconds_until(1) == 44  # after the turns up to 62, and one answer more takes 6.25 s
    clock.now = 100.0
    assert pace.seconds_until(1) == 2  # what was long ago says nothing

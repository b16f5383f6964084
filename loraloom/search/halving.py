"""Successive halving: at a quarter and at half of its steps a trial must be among the better half.

Source: Jamieson & Talwalkar (2016, https://arxiv.org/abs/1502.07943). As in ASHA (Li et al., 2018,
https://arxiv.org/abs/1810.05934) a trial is held against every figure its rung has seen so far, so that
those who took the places of weak ones are judged too; unlike there, all that reach a rung in one tick
are judged together, and trials of one round that are equally long do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.training.state import Timetable

# In percent of a trial's steps.
RUNGS = (25, 50)
KEPT_SHARE = 2  # one in so many goes on


def rung_steps(timetable: Timetable) -> dict[str, int]:
    """The step of each rung: the first evaluation at or after it, and before the end.

    Returns:
        `{"25": 8, "50": 16}`; of two rungs with one evaluation the later; a rung without one is missing.
    """
    by_step: dict[int, str] = {}
    for rung in RUNGS:
        first = -(-timetable.total_steps * rung // 100)
        steps = (s for s in range(first, timetable.total_steps) if timetable.is_due("eval", s))
        if (step := next(steps, None)) is not None:
            by_step[step] = str(rung)
    return {rung: step for step, rung in by_step.items()}


def rung_due(steps: Mapping[str, int], step: int, judged: Mapping[str, float]) -> str | None:
    """The rung that a trial has reached and was not judged at yet."""
    return next((rung for rung, at in steps.items() if step >= at and rung not in judged), None)


def worse_half(arrived: Mapping[str, float], passed: Sequence[float], *, higher_is_better: bool) -> list[str]:
    """Who is not among the better half.

    Args:
        arrived: the figure of each trial that reached a rung now.
        passed: the figures of those that reached it before.

    >>> weak({"a": 2.0, "b": 3.0}, [], higher_is_better=False)
    ['b']
    """
    sign = -1 if higher_is_better else 1
    field: list[tuple[float, str]] = [(sign * figure, "") for figure in passed]
    field += [(sign * figure, name) for name, figure in arrived.items()]
    kept = -(-len(field) // KEPT_SHARE)
    return [name for _, name in sorted(field)[kept:] if name]

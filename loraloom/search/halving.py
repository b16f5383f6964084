"""Successive halving: stop the worse half of the trials at 25 % and 50 % of their steps.

Source: Jamieson & Talwalkar (2016, https://arxiv.org/abs/1502.07943). As in ASHA (Li et al., 2018,
https://arxiv.org/abs/1810.05934), a trial is compared with all figures recorded at its rung so far, so
that trials that started later, in place of stopped ones, are judged too. Unlike in ASHA, trials that reach a
rung at the same step (because they started together and have the same length) are judged together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.data.timetable import Timetable

# In percent of the steps of a trial.
RUNGS = (25, 50)
KEPT_SHARE = 2  # one in this many continues


def rung_steps(timetable: Timetable) -> dict[str, int]:
    """Find the step of the first evaluation at or after each rung, and before the end of training.

    Returns:
        `{"25": 8, "50": 16}`; if both rungs have the same evaluation, only the later rung is included;
        rungs without an evaluation are omitted.
    """
    by_step: dict[int, str] = {}
    for rung in RUNGS:
        first = -(-timetable.total_steps * rung // 100)
        steps = (s for s in range(first, timetable.total_steps) if timetable.is_due("eval", s))
        if (step := next(steps, None)) is not None:
            by_step[step] = str(rung)
    return {rung: step for step, rung in by_step.items()}


def rung_due(steps: Mapping[str, int], step: int, judged: Mapping[str, float]) -> str | None:
    """Return the rung that a trial has reached without having been judged at it; None if there is none."""
    return next((rung for rung, at in steps.items() if step >= at and rung not in judged), None)


def worse_half(arrived: Mapping[str, float], passed: Sequence[float], *, higher_is_better: bool) -> list[str]:
    """List the trials that are not in the better half.

    Args:
        arrived: figure of each trial that has just reached a rung.
        passed: figures of trials that reached that rung before.

    >>> worse_half({"a": 2.0, "b": 3.0}, [], higher_is_better=False)
    ['b']
    """
    sign = -1 if higher_is_better else 1
    field: list[tuple[float, str]] = [(sign * figure, "") for figure in passed]
    field += [(sign * figure, name) for name, figure in arrived.items()]
    kept = -(-len(field) // KEPT_SHARE)
    return [name for _, name in sorted(field)[kept:] if name]

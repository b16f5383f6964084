"""Staging the next step's first static pass while a GPU computes this step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from loraloom.data.pass_plan import num_labels_of, plan_passes
from loraloom.training.engine import Engine, Trainee
from loraloom.training.passes import pass_inputs, pass_key
from loraloom.training.static_passes import StaticPasses


def stage_next(engine: Engine, static: StaticPasses, trainees: Sequence[Trainee]) -> None:
    """Stage the first pass of the next step; call this after the last pass of this step was started.

    If another pass follows instead, because an experiment fails or ends, the staged one is not used.
    """
    is_last = any(t.progress.step + 1 >= t.timetable.total_steps for t in trainees)
    if is_last or any(t.experiment.training.label_smoothing_factor for t in trainees):
        return
    setup = engine.setup
    limit = engine.state.limits_at(engine.state.tick + 1, setup.pass_limit).pass_tokens
    plans = [t.timetable.micro_batches(t.progress.step + 1) for t in trainees]
    ranges = setup.ranks.slices(plans, setup.train_set)
    first = next(plan_passes(plans, setup.train_set, setup.pass_tokens, limit, ranges), None)
    if first is None:  # this rank has no rows of it
        return
    num_labels = [num_labels_of(plan, setup.train_set) for plan in plans]
    inputs = partial(pass_inputs, engine, trainees, first, num_labels, is_static=True, steps_ahead=1)
    static.stage_ahead(pass_key(trainees, first, num_labels, steps_ahead=1), inputs)

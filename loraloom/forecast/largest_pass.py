"""The largest pass of training, known in advance because the order of rows depends only on seeds.

The longest rows of a file are seldom in the same micro-batch, and a plan that assumed they were would request
much more memory than training needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from loraloom.data.batches import epoch_order
from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.data.ownership import seed_for
from loraloom.data.pass_plan import plan_passes
from loraloom.data.row_packing import arrange
from loraloom.data.timetable import Timetable
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.forecast.activation_memory import Shape
from loraloom.recipe import Experiment

# Steps examined from the start; any larger micro-batch in later steps is hardly larger.
MOST_STEPS = 20_000
# How many of the steps with the most tokens are laid out token by token.
MOST_CANDIDATES = 16

Shapes = dict[str, Shape]


class PassLayout(NamedTuple):
    """The layout of a pass.

    Args:
        shapes: rows of each experiment, padding included.
        num_labels, num_tokens: totals over its examples.
    """

    shapes: Shapes
    num_labels: int
    num_tokens: int


def largest_passes(
    experiments: Sequence[Experiment],
    examples: EncodedSet,
    *,
    pass_tokens: int,
    packing: bool,
    ranks: Ranks = ONE_PROCESS,
    limit: int | None = None,
) -> list[PassLayout]:
    """Return passes of a wave that include the largest, whatever each experiment's memory per token.

    Args:
        experiments: experiments that train together, from their first step.
        examples: the train set.
        pass_tokens: maximum number of tokens in a pass of several micro-batches.
        packing: whether a row may contain several examples.
        ranks: the processes that share the rows; only this process's passes are returned.
        limit: maximum number of tokens in any pass of more than one row; None if there is no limit.
    """
    timetables = {e.name: Timetable(e, len(examples)) for e in experiments}
    passes: list[PassLayout] = []
    for step in _heaviest_steps(list(timetables.values()), examples):
        names = [name for name, timetable in timetables.items() if step < timetable.total_steps]
        plans = [timetables[name].micro_batches(step) for name in names]
        for each in plan_passes(plans, examples, pass_tokens, limit, ranks.slices(plans, examples)):
            slots = {names[own.trainee]: [examples[row] for row in own.rows] for own in each.slices}
            num_labels = sum(len(example.labels) for own in slots.values() for example in own)
            passes.append(PassLayout(lay_out(slots, packing=packing), num_labels, each.num_tokens))
    return passes


def lay_out(slots: dict[str, list[EncodedExample]], *, packing: bool) -> Shapes:
    """Compute the number and lengths of each slot's rows, arranged as in `collate`."""
    rows, width = arrange(list(slots.values()), packing=packing)
    return {name: Shape(len(own), *width) for name, own in zip(slots, rows, strict=True)}


def _heaviest_steps(timetables: Sequence[Timetable], examples: EncodedSet) -> list[int]:
    """Find the steps with the largest micro-batches of one experiment, or of all experiments together."""
    lengths = examples.source_lengths + examples.target_lengths
    tokens = [step_tokens(timetable, lengths) for timetable in timetables]
    num_steps = max(len(own) for own in tokens)
    largest, together = np.zeros(num_steps, np.int64), np.zeros(num_steps, np.int64)
    for own in tokens:
        largest[: len(own)] = np.maximum(largest[: len(own)], own.max(1))
        together[: len(own)] += own.max(1)
    chosen = {int(step) for order in (largest, together) for step in np.argsort(order)[-MOST_CANDIDATES:]}
    return sorted(chosen)


def step_tokens(timetable: Timetable, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count the tokens of each micro-batch in the first `MOST_STEPS` steps.

    Args:
        timetable: timetable of an experiment.
        lengths: number of tokens of each row.

    Returns:
        int64 [steps, micro-batches per step].
    """
    training = timetable.experiment.training
    size, accumulated = training.per_device_train_batch_size, training.gradient_accumulation_steps
    num_steps = min(timetable.total_steps, MOST_STEPS)
    epochs = []
    for epoch in range(-(-num_steps // timetable.steps_per_epoch)):
        order = epoch_order(len(lengths), seed_for(timetable.experiment.seed, "order", epoch))
        padded = np.zeros(timetable.steps_per_epoch * size * accumulated, np.int64)
        padded[: len(order)] = lengths[order]
        epochs.append(padded.reshape(timetable.steps_per_epoch, accumulated, size).sum(2))
    return np.concatenate(epochs)[:num_steps]

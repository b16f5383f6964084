"""The passes of a step, forward and backward, and the owners of their rows.

However a step is divided into passes (`data/pass_plan.py`), losses and gradients are sums over tokens, and a
token keeps its dropout mask (`data/ownership.py`). Only the order of summation changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from loraloom.bank.objective import span_losses
from loraloom.data.batches import Batch, SlotExamples, collate
from loraloom.data.ownership import DrawnSlice, Rows, training_rows
from loraloom.data.pass_plan import Pass, Plan, num_labels_of, plan_passes
from loraloom.training.engine import Engine, SignalReceivedError, Trainee
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.static_passes import PassInputs, static_widths


class PassTooLargeError(Exception):
    """A pass does not fit in memory.

    Args:
        each: the pass.
    """

    def __init__(self, each: Pass) -> None:
        super().__init__()
        self.each = each


def step_losses(engine: Engine, trainees: Sequence[Trainee], plans: Sequence[Plan]) -> Tensor:
    """Compute the losses of one step, and add their gradients to the gradients of the adapters' parameters.

    The loss of a trainee is the sum over its label tokens divided by the number of label tokens in its whole
    step, so that every token of accumulated micro-batches has the same weight.

    Args:
        engine: the training.
        trainees, plans: the experiments that take the step, and the micro-batches of each.

    Returns:
        The loss of each trainee, float32 [trainees], on the device.

    Raises:
        PassTooLargeError: one of the passes does not fit in memory.
        SignalReceivedError: a signal arrived between two passes.
    """
    setup = engine.setup
    limit = engine.state.limits_at(engine.state.tick + 1, setup.pass_limit).pass_tokens
    num_labels = [num_labels_of(plan, setup.train_set) for plan in plans]
    losses = torch.zeros(len(trainees), device=engine.bank.base.device)
    ranges = setup.ranks.slices(plans, setup.train_set)
    for number, each in enumerate(plan_passes(plans, setup.train_set, setup.pass_tokens, limit, ranges)):
        if number and engine.stop.has_arrived:
            raise SignalReceivedError
        pass_losses = run_pass(engine, trainees, each, num_labels)
        if len(each.slices) == len(trainees):
            losses += pass_losses
        else:
            losses[[own.trainee for own in each.slices]] += pass_losses
    return losses


def run_pass(engine: Engine, trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[float]) -> Tensor:
    """Run one pass forward and backward.

    Args:
        engine, trainees: as in `step_losses`.
        each: the pass.
        num_labels: number of label tokens of each trainee's whole step.

    Returns:
        The losses of its slices, float32 [slices], on the device.

    Raises:
        PassTooLargeError: the pass does not fit in memory.
    """
    base = engine.bank.base
    owners = [trainees[own.trainee] for own in each.slices]
    smoothing = [float(owner.experiment.training.label_smoothing_factor) for owner in owners]
    static = None if any(smoothing) else engine.setup.static_passes
    try:
        if static is not None:  # on a GPU: fixed shapes, replayed
            inputs = partial(pass_inputs, engine, trainees, each, num_labels, is_static=True)
            return static.run(pass_key(trainees, each, num_labels), inputs, owners)
        batch, rows, per_label = pass_inputs(engine, trainees, each, num_labels)
        # The backward pass is inside too: recomputed activations depend on the owners of rows.
        with engine.bank.rows(rows):
            sums = span_losses(base, batch.to(base.device), smoothing)
            losses = sums * torch.tensor(per_label).to(base.device)
            losses.sum().backward()
        return losses.detach()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    raise PassTooLargeError(each)  # outside of the handler: the error's traceback would keep activations


def pass_inputs(
    engine: Engine,
    trainees: Sequence[Trainee],
    each: Pass,
    num_labels: Sequence[float],
    *,
    is_static: bool = False,
    steps_ahead: int = 0,
) -> PassInputs:
    """Return the inputs of a pass, on the CPU.

    Args:
        engine, trainees, each, num_labels: as in `run_pass`.
        is_static: whether the pass is static: one example per row, and few different widths.
        steps_ahead: number of steps that each trainee will take before the pass.
    """
    setup = engine.setup
    slots = [
        SlotExamples(trainees[own.trainee].name, [setup.train_set[row] for row in own.rows])
        for own in each.slices
    ]
    batch = collate(
        slots,
        engine.bank.base.layout,
        packing=setup.shared.packing and not is_static,
        min_width=static_widths(slots) if is_static else (0, 0),
    )
    rows = _ownership(engine, trainees, each, batch, steps_ahead)
    return PassInputs(batch, rows, [1 / num_labels[own.trainee] for own in each.slices])


def _ownership(
    engine: Engine, trainees: Sequence[Trainee], each: Pass, batch: Batch, steps_ahead: int
) -> Rows:
    """Return the owners of the rows in a pass, and everything that its random numbers depend on."""
    examples = engine.setup.train_set
    slices = {  # if a micro-batch was divided, dropout is also drawn for its rows outside of the pass
        trainees[own.trainee].name: DrawnSlice(own.first, examples.side_lengths(own.micro_batch))
        for own in each.slices
        if len(own.rows) < len(own.micro_batch)
    }
    return training_rows(
        batch,
        seeds={t.name: t.experiment.seed for t in trainees},
        steps={t.name: t.progress.step + steps_ahead for t in trainees},
        micro_batch=each.micro_batch,
        slices=slices,
    )


def pass_key(
    trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[float], steps_ahead: int = 0
) -> object:
    """Return everything that determines a pass; two passes with equal keys are the same."""
    slices = [
        (trainees[s.trainee].name, trainees[s.trainee].progress.step + steps_ahead, num_labels[s.trainee], s)
        for s in each.slices
    ]
    return each.micro_batch, slices

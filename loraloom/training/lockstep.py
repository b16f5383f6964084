"""Passes over a base divided among ranks: all ranks run the same number of passes, with the same adapters.

The layers' weights are gathered while a pass goes through them (`base/sharding.py`), so a rank that runs no
pass, or whose backward pass has fewer layers, would block the others. A pass is therefore planned for all
ranks together, and each rank computes its own part of every slice in it; a rank whose part would be empty
computes one row, with weight 0 in the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from loraloom.data.encoding import EncodedSet
from loraloom.data.pass_plan import Pass, Plan, Slice, num_labels_of, plan_passes
from loraloom.distributed.ranks import Ranks, divide
from loraloom.errors import TrainingError
from loraloom.text.message import Message
from loraloom.training.engine import Engine, Trainee
from loraloom.training.passes import PassTooLargeError, run_pass


def lockstep_losses(engine: Engine, trainees: Sequence[Trainee], plans: Sequence[Plan]) -> Tensor:
    """Compute the losses of this rank's rows of one step, as `step_losses` does.

    Args:
        engine, trainees, plans: as in `step_losses`.

    Raises:
        TrainingError: a pass does not fit in memory; the ranks cannot start over together.
    """
    setup = engine.setup
    limit = engine.state.limits_at(engine.state.tick + 1, setup.pass_limit).pass_tokens
    num_labels = [num_labels_of(plan, setup.train_set) for plan in plans]
    losses = torch.zeros(len(trainees), device=engine.bank.base.device)
    for each in plan_passes(plans, setup.train_set, setup.pass_tokens, limit):
        slices, counts = _rank_slices(each, num_labels, setup.train_set, setup.ranks)
        try:
            pass_losses = run_pass(engine, trainees, replace(each, slices=slices), counts)
        except PassTooLargeError as error:
            raise _too_large(engine, error.each) from None
        losses[[own.trainee for own in slices]] += pass_losses
    return losses


def _rank_slices(
    each: Pass, num_labels: Sequence[int], examples: EncodedSet, ranks: Ranks
) -> tuple[list[Slice], list[float]]:
    """Return the slices that this rank computes, and the number that each trainee's loss is divided by."""
    slices, counts = [], [float(number) for number in num_labels]
    for whole in each.slices:
        ((first, stop),) = divide([whole.rows], examples, ranks.rank, ranks.size)
        if first == stop:
            first, stop, counts[whole.trainee] = 0, 1, math.inf
        tokens = int(examples.num_tokens(whole.rows[first:stop]).sum())
        slices.append(replace(whole, first=whole.first + first, stop=whole.first + stop, num_tokens=tokens))
    return slices, counts


def _too_large(engine: Engine, each: Pass) -> TrainingError:
    return TrainingError(
        Message("there is not enough memory for a pass over the divided base; checkpoints are unchanged"),
        where=str(engine.setup.run.folder),
        found=Message("{num_tokens:,} tokens in one pass", num_tokens=each.num_tokens),
        fix=Message(
            "Lower training.per_device_train_batch_size and raise gradient_accumulation_steps, or set "
            "training.gradient_checkpointing: true."
        ),
    )

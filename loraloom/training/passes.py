"""The passes of a step: which rows share one, and the forward and backward pass that computes it.

A pass takes the micro-batches of as many experiments as memory allows. If memory runs out, the passes are
planned again with fewer tokens (`memory.py`): fewer experiments share one, and then a micro-batch itself is
cut into pieces of fewer rows. The optimizer batch stays the same: losses and gradients are sums over tokens,
and a token keeps its dropout (`bank/ownership.py`). Only the order of the sums changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from loraloom.bank.objective import part_losses
from loraloom.bank.ownership import Excerpt, Rows, training_rows
from loraloom.data.batches import Batch, Part, collate
from loraloom.data.encoding import EncodedSet
from loraloom.distributed.ranks import Spans
from loraloom.training.engine import Engine, SignalReceivedError, Trainee
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.static_passes import PassInputs, static_widths

# The micro-batches of one trainee in one step: for each, its rows of the train set.
Plan = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one trainee's micro-batch: all of them, unless memory allows fewer.

    Args:
        trainee: its number among those of the step.
        micro_batch: the rows of the whole micro-batch.
        first, stop: the part of them that this piece is.
        num_tokens: source and target tokens of the piece.
    """

    trainee: int
    micro_batch: Sequence[int]
    first: int
    stop: int
    num_tokens: int

    @property
    def rows(self) -> Sequence[int]:
        """Its rows of the train set."""
        return self.micro_batch[self.first : self.stop]


@dataclass(frozen=True)
class Pass:
    """What goes through the base at once: at most one piece of each trainee.

    Args:
        micro_batch: the number of the micro-batch within the step, from 0.
        pieces: in the order of the trainees.
    """

    micro_batch: int
    pieces: Sequence[Piece]

    @property
    def num_tokens(self) -> int:
        """Source and target tokens of all pieces."""
        return sum(piece.num_tokens for piece in self.pieces)

    @property
    def num_rows(self) -> int:
        """Rows of all pieces."""
        return sum(len(piece.rows) for piece in self.pieces)


class PassTooLargeError(Exception):
    """Memory does not hold a pass.

    Args:
        each: the pass.
    """

    def __init__(self, each: Pass) -> None:
        super().__init__()
        self.each = each


def step_losses(engine: Engine, trainees: Sequence[Trainee], plans: Sequence[Plan]) -> Tensor:
    """Compute the losses of one step; the gradients are added to those of the adapters' parameters.

    The loss of a trainee is the sum over its label tokens divided by their number in its whole step, so
    that accumulated micro-batches weigh every token alike.

    Args:
        engine: the training.
        trainees, plans: the experiments that take the step, and the micro-batches of each.

    Returns:
        The loss of each trainee, float32 [trainees], on the device.

    Raises:
        PassTooLargeError: memory does not hold one of the passes.
        SignalReceivedError: a signal arrived between two passes.
    """
    setup = engine.setup
    limit = engine.state.limits_at(engine.state.tick + 1, setup.pass_limit).pass_tokens
    num_labels = [num_labels_of(plan, setup.train_set) for plan in plans]
    losses = torch.zeros(len(trainees), device=engine.bank.base.device)
    spans = setup.ranks.spans(plans, setup.train_set)
    for number, each in enumerate(plan_passes(plans, setup.train_set, setup.pass_tokens, limit, spans)):
        if number and engine.stop.has_arrived:
            raise SignalReceivedError
        parts = run_pass(engine, trainees, each, num_labels)
        if len(each.pieces) == len(trainees):
            losses += parts
        else:
            losses[[piece.trainee for piece in each.pieces]] += parts
    return losses


def run_pass(engine: Engine, trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[float]) -> Tensor:
    """Run one pass forward and backward.

    Args:
        engine, trainees: as in `step_losses`.
        each: the pass.
        num_labels: label tokens of each trainee's whole step.

    Returns:
        The losses of its pieces, float32 [pieces], on the device.

    Raises:
        PassTooLargeError: memory does not hold it.
    """
    base = engine.bank.base
    owners = [trainees[piece.trainee] for piece in each.pieces]
    smoothing = [float(owner.experiment.training.label_smoothing_factor) for owner in owners]
    static = None if any(smoothing) else engine.setup.static_passes
    try:
        if static is not None:  # on a GPU: fixed shapes, replayed
            inputs = partial(pass_inputs, engine, trainees, each, num_labels, is_static=True)
            return static.run(pass_key(trainees, each, num_labels), inputs, owners)
        batch, rows, per_label = pass_inputs(engine, trainees, each, num_labels)
        # The backward pass is inside too: recomputed activations need to know whose rows they are.
        with engine.bank.rows(rows):
            sums = part_losses(base, batch.to(base.device), smoothing)
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
    """Return what a pass computes with, on the processor.

    Args:
        engine, trainees, each, num_labels: as in `run_pass`.
        is_static: for a static pass, which has one example a row, and few widths.
        steps_ahead: how many steps each trainee will have taken before the pass.
    """
    setup = engine.setup
    parts = [
        Part(trainees[piece.trainee].name, [setup.train_set[row] for row in piece.rows])
        for piece in each.pieces
    ]
    batch = collate(
        parts,
        engine.bank.base.layout,
        packing=setup.shared.packing and not is_static,
        min_width=static_widths(parts) if is_static else (0, 0),
    )
    rows = _ownership(engine, trainees, each, batch, steps_ahead)
    return PassInputs(batch, rows, [1 / num_labels[piece.trainee] for piece in each.pieces])


def _ownership(
    engine: Engine, trainees: Sequence[Trainee], each: Pass, batch: Batch, steps_ahead: int
) -> Rows:
    """Return whose rows the batch of a pass has, and what its random numbers are functions of."""
    examples = engine.setup.train_set
    excerpts = {  # of a micro-batch that was cut, dropout is drawn for the rows outside of the pass too
        trainees[piece.trainee].name: Excerpt(piece.first, examples.side_lengths(piece.micro_batch))
        for piece in each.pieces
        if len(piece.rows) < len(piece.micro_batch)
    }
    return training_rows(
        batch,
        seeds={t.name: t.experiment.seed for t in trainees},
        steps={t.name: t.progress.step + steps_ahead for t in trainees},
        micro_batch=each.micro_batch,
        excerpts=excerpts,
    )


def plan_passes(
    plans: Sequence[Plan], examples: EncodedSet, together: int, limit: int | None, spans: Spans | None = None
) -> Iterator[Pass]:
    """Decide which rows share a pass, in the order of the micro-batches and of the trainees.

    Args:
        plans: the micro-batches of each trainee.
        examples: the train set.
        together: most tokens of several trainees' micro-batches in one pass; that of one may have more.
        limit: most tokens of any pass, except that of a single row; None if there is no limit.
        spans: the part of each micro-batch that this process computes; None for all of it.
    """
    most = together if limit is None else min(together, limit)
    for number in range(max(len(plan) for plan in plans)):
        passes: list[list[Piece]] = []
        room = 0
        for trainee, plan in enumerate(plans):
            if number >= len(plan):
                continue
            span = (0, len(plan[number])) if spans is None else spans[trainee][number]
            for piece in _cut(Piece(trainee, plan[number], *span, 0), examples, limit):
                if not passes or piece.num_tokens > room:
                    passes.append([])
                    room = most
                passes[-1].append(piece)
                room -= piece.num_tokens
        yield from (Pass(number, pieces) for pieces in passes)


def _cut(whole: Piece, examples: EncodedSet, limit: int | None) -> Iterator[Piece]:
    """Cut a part of a micro-batch into pieces of at most `limit` tokens, but at least one row.

    Two of these pieces never share a pass: the micro-batch is cut only if both together are too much.
    """
    first, num_tokens = whole.first, 0
    for number, own in enumerate(examples.num_tokens(whole.rows).tolist(), first):
        if limit is not None and number > first and num_tokens + own > limit:
            yield replace(whole, first=first, stop=number, num_tokens=num_tokens)
            first, num_tokens = number, 0
        num_tokens += own
    if first < whole.stop:
        yield replace(whole, first=first, num_tokens=num_tokens)


def num_labels_of(plan: Plan, examples: EncodedSet) -> int:
    """Count the label tokens of a trainee's step."""
    return sum(int(examples.target_lengths[rows].sum()) for rows in plan)


def pass_key(
    trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[float], steps_ahead: int = 0
) -> object:
    """Return all that decides a pass; two passes with equal keys are the same."""
    pieces = [
        (trainees[p.trainee].name, trainees[p.trainee].progress.step + steps_ahead, num_labels[p.trainee], p)
        for p in each.pieces
    ]
    return each.micro_batch, pieces

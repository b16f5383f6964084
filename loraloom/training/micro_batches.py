"""The gradients of a step, in as many passes as memory asks for.

A pass takes the micro-batches of as many experiments as it may hold. When memory runs out nothing has
been stepped yet, so the step begins anew with narrower passes: fewer experiments share one, and then a
micro-batch itself is cut into pieces of fewer rows. The optimizer batch stays what it was: losses and
gradients are sums over tokens, and a token keeps its dropout (`bank/ownership.py`). Only the order of the
sums changes, so the limit is recorded, and a resume goes by it. Where not even a single row fits beside
an adapter, it is that adapter's own fault if the row fits beside another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loraloom.bank.objective import part_losses
from loraloom.bank.ownership import Excerpt, Rows, training_rows
from loraloom.data.batches import Batch, Part, collate
from loraloom.data.encoding import EncodedSet
from loraloom.errors import TrainingError
from loraloom.run.events import MemoryLimit, Report
from loraloom.training.optimizer import clear_gradients
from loraloom.training.out_of_memory import is_out_of_memory, release_memory
from loraloom.training.setup import NO_LIMIT, Setup, Trainee
from loraloom.training.state import Limits, TrainingState


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one trainee's micro-batch: all of them, unless memory allows fewer.

    Args:
        trainee: its number among those of the step.
        micro_batch: the rows of the whole micro-batch.
        first, stop: which of them.
        num_tokens: of these, source and target together.
    """

    trainee: int
    micro_batch: Sequence[int]
    first: int
    stop: int
    num_tokens: int

    @property
    def rows(self) -> Sequence[int]:
        """Rows of the train set."""
        return self.micro_batch[self.first : self.stop]


class RowTooLargeError(TrainingError):
    """Memory does not hold the pass of a single row.

    Args:
        piece: the row, and whose it is.
        where: the run.
    """

    def __init__(self, piece: Piece, where: str) -> None:
        super().__init__(
            "there is not enough memory for a step, not even row by row; checkpoints are as they were",
            where=where,
            found=f"training row {piece.rows[0] + 1}, {piece.num_tokens} tokens",
            fix="Set training.gradient_checkpointing: true, or lower data.max_source_length and "
            "data.max_target_length.",
        )
        self.piece = piece


@dataclass(frozen=True)
class Pass:
    """What goes through the base at once, at most one piece of each trainee.

    Args:
        micro_batch: the number of the micro-batch.
        pieces: whose rows.
    """

    micro_batch: int
    pieces: Sequence[Piece]

    @property
    def num_tokens(self) -> int:
        """Of all pieces."""
        return sum(piece.num_tokens for piece in self.pieces)

    @property
    def num_rows(self) -> int:
        """Of all pieces."""
        return sum(len(piece.rows) for piece in self.pieces)


def step_losses(
    setup: Setup,
    trainees: Sequence[Trainee],
    plans: Sequence[Sequence[Sequence[int]]],
    state: TrainingState,
    report: Report,
) -> list[float] | None:
    """Forward and backward passes of one step; the gradients lie on the adapters' parameters.

    A trainee's loss is the sum over its label tokens divided by their number in its whole step, so
    that accumulated micro-batches weigh every token alike.

    Args:
        setup: what is trained on.
        trainees: who takes the step.
        plans: for each of them its micro-batches, rows of the train set.
        state: learns of limits that memory sets.
        report: told of them.

    Returns:
        Each trainee's loss; None where a signal came between two passes, and no gradient is left.

    Raises:
        RowTooLargeError: one row alone is too much for the memory there is; no gradient is left.
    """
    step = state.tick + 1
    while True:
        limit = state.limits_at(step).pass_tokens
        passes = list(plan_passes(plans, setup.train_set, setup.pass_tokens, limit))
        result = _accumulate(setup, trainees, plans, passes)
        if isinstance(result, list):
            return result
        _drop_gradients(trainees)
        if result is None:
            return None
        release_memory()
        if result.num_rows == 1:
            raise RowTooLargeError(result.pieces[0], str(setup.run.folder))
        limits = state.narrow(step, Limits(pass_tokens=_narrower(result)))
        report(
            MemoryLimit(
                step=step,
                phase="training",
                tried=result.num_tokens,
                pass_tokens=limits.pass_tokens,
                eval_rows=limits.eval_rows,
            )
        )


def fits_beside_another(setup: Setup, trainees: Sequence[Trainee], piece: Piece) -> bool:
    """Whether a row that is too much beside one adapter is not beside another of the same step.

    Args:
        setup: what is trained on.
        trainees: who takes the step.
        piece: the row, and whose it is.
    """
    for number in range(len(trainees)):
        if number != piece.trainee:
            other = Piece(number, piece.rows, 0, 1, piece.num_tokens)
            fits = _backward(setup, trainees, Pass(0, [other]), [1] * len(trainees)) is not None
            _drop_gradients(trainees)
            release_memory()
            if fits:
                return True
    return False


def plan_passes(
    plans: Sequence[Sequence[Sequence[int]]], examples: EncodedSet, together: int, limit: int | None
) -> Iterator[Pass]:
    """Which rows share a pass, in the order of the micro-batches and of the trainees.

    Args:
        plans: as in `step_losses`.
        examples: the train set.
        together: tokens that several trainees' micro-batches may have in one pass; one may have more.
        limit: tokens that no pass may exceed, but that of a single row; None where there is none.
    """
    most = NO_LIMIT if limit is None else limit
    for number in range(max(len(plan) for plan in plans)):
        pieces: list[Piece] = []
        for trainee, plan in enumerate(plans):
            if number < len(plan):
                pieces += _cut(trainee, plan[number], examples, most)
        for shared in _side_by_side(pieces, min(together, most)):
            yield Pass(number, shared)


def _cut(trainee: int, rows: Sequence[int], examples: EncodedSet, most: int) -> Iterator[Piece]:
    """A micro-batch in pieces of at most so many tokens, but at least one row."""
    first = num_tokens = 0
    for number, row in enumerate(rows):
        own = len(examples[row].input_ids) + len(examples[row].labels)
        if number > first and num_tokens + own > most:
            yield Piece(trainee, rows, first, number, num_tokens)
            first, num_tokens = number, 0
        num_tokens += own
    yield Piece(trainee, rows, first, len(rows), num_tokens)


def _side_by_side(pieces: Sequence[Piece], most: int) -> list[list[Piece]]:
    """Which pieces share a pass, in order: as many as have at most so many tokens, but at least one.

    Two pieces of one micro-batch never do: it was cut where both were too much.
    """
    passes: list[list[Piece]] = []
    room = 0
    for piece in pieces:
        if not passes or piece.num_tokens > room:
            passes.append([])
            room = most
        passes[-1].append(piece)
        room -= piece.num_tokens
    return passes


def _accumulate(
    setup: Setup,
    trainees: Sequence[Trainee],
    plans: Sequence[Sequence[Sequence[int]]],
    passes: Sequence[Pass],
) -> list[float] | Pass | None:
    """Every pass of a step; the one that memory did not hold, or None where a signal came between two."""
    examples = setup.train_set
    num_labels = [sum(len(examples[row].labels) for rows in plan for row in rows) for plan in plans]
    losses = torch.zeros(len(trainees), device=setup.bank.base.device)
    for number, each in enumerate(passes):
        if number and setup.stop:
            return None
        parts = _backward(setup, trainees, each, num_labels)
        if parts is None:
            return each
        losses[[piece.trainee for piece in each.pieces]] += parts
    return losses.tolist()


def _backward(
    setup: Setup, trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[int]
) -> Tensor | None:
    """One pass, forward and backward: the losses of its pieces; None where memory does not hold it."""
    bank, examples = setup.bank, setup.train_set
    try:
        batch = _batch(setup, trainees, each)
        per_label = torch.tensor([1 / num_labels[piece.trainee] for piece in each.pieces])
        smoothing = [
            float(trainees[p.trainee].experiment.training.label_smoothing_factor) for p in each.pieces
        ]
        # The backward pass recomputes activations under checkpointing: it needs to know whose rows.
        with bank.rows(_ownership(batch, trainees, each, examples)):
            losses = part_losses(bank.base, batch, smoothing) * per_label.to(bank.base.device)
            losses.sum().backward()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return losses.detach()


def _batch(setup: Setup, trainees: Sequence[Trainee], each: Pass) -> Batch:
    base, examples = setup.bank.base, setup.train_set
    batch = collate(
        [Part(trainees[piece.trainee].name, [examples[row] for row in piece.rows]) for piece in each.pieces],
        base.layout,
        packing=setup.shared.packing,
    )
    return batch.to(base.device)


def _ownership(batch: Batch, trainees: Sequence[Trainee], each: Pass, examples: EncodedSet) -> Rows:
    """Whose rows the pass has; of a micro-batch that was cut, also what lies outside of it."""
    excerpts = {
        trainees[piece.trainee].name: Excerpt(
            piece.first,
            {
                "source": [len(examples[row].input_ids) for row in piece.micro_batch],
                "target": [len(examples[row].labels) for row in piece.micro_batch],
            },
        )
        for piece in each.pieces
        if len(piece.rows) < len(piece.micro_batch)
    }
    return training_rows(
        batch,
        seeds={t.name: t.experiment.seed for t in trainees},
        steps={t.name: t.progress.step for t in trainees},
        micro_batch=each.micro_batch,
        excerpts=excerpts,
    )


def _drop_gradients(trainees: Sequence[Trainee]) -> None:
    for trainee in trainees:
        clear_gradients(trainee.optimizer)


def _narrower(too_large: Pass) -> int:
    """Half of what a pass held, but as much as one experiment's share of it."""
    half = too_large.num_tokens // 2
    if len(too_large.pieces) == 1:
        return half
    return max(half, *(piece.num_tokens for piece in too_large.pieces))

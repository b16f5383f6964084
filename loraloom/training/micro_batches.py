"""The gradients of a step, in as many passes as memory asks for.

A pass takes the micro-batches of as many experiments as it may hold. When memory runs out nothing has
been stepped yet, so the step begins anew with narrower passes: fewer experiments share one, and then a
micro-batch itself is cut into pieces of fewer rows. The optimizer batch stays what it was: losses and
gradients are sums over tokens, and a token keeps its dropout (`bank/ownership.py`). Only the order of the
sums changes, so the limit is recorded, and a resume goes by it. Where not even a single row fits beside
an adapter, it is that adapter's own fault if the row fits beside another.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loraloom.bank.objective import part_losses
from loraloom.errors import TrainingError
from loraloom.run.events import MemoryLimit, Report
from loraloom.training.optimizer import clear_gradients
from loraloom.training.out_of_memory import is_out_of_memory, release_memory
from loraloom.training.pass_inputs import batch_of, ownership_of, signature_of, stage, stage_next
from loraloom.training.pass_plan import Pass, Piece, num_labels_of, plan_passes
from loraloom.training.setup import Setup, Trainee
from loraloom.training.state import Limits, TrainingState


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


def step_losses(
    setup: Setup,
    trainees: Sequence[Trainee],
    plans: Sequence[Sequence[Sequence[int]]],
    state: TrainingState,
    report: Report,
) -> Tensor | None:
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
        Each trainee's loss, float32 [trainees], on the device; None if a signal came between two passes, and
        no gradient is left.

    Raises:
        RowTooLargeError: one row alone is too much for the memory there is; no gradient is left.
    """
    step = state.tick + 1
    while True:
        limit = state.limits_at(step).pass_tokens
        passes = list(plan_passes(plans, setup.train_set, setup.pass_tokens, limit))
        result = _accumulate(setup, trainees, plans, passes, limit)
        if isinstance(result, Tensor):
            return result
        _drop_gradients(trainees)
        if result is None:
            return None
        if setup.static_passes is not None:
            setup.static_passes.clear()
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


def _accumulate(
    setup: Setup,
    trainees: Sequence[Trainee],
    plans: Sequence[Sequence[Sequence[int]]],
    passes: Sequence[Pass],
    limit: int | None,
) -> Tensor | Pass | None:
    """Every pass of a step; the one that memory did not hold, or None where a signal came between two."""
    num_labels = num_labels_of(plans, setup.train_set)
    losses = torch.zeros(len(trainees), device=setup.bank.base.device)
    for number, each in enumerate(passes):
        if number and setup.stop:
            return None
        parts = _backward(setup, trainees, each, num_labels)
        if parts is None:
            return each
        if len(each.pieces) == len(trainees):
            losses += parts
        else:
            losses[[piece.trainee for piece in each.pieces]] += parts
    if setup.static_passes is not None:
        stage_next(setup, setup.static_passes, trainees, limit)
    return losses


def _backward(
    setup: Setup, trainees: Sequence[Trainee], each: Pass, num_labels: Sequence[int]
) -> Tensor | None:
    """One pass, forward and backward: the losses of its pieces; None where memory does not hold it."""
    bank, examples = setup.bank, setup.train_set
    owners = [trainees[piece.trainee] for piece in each.pieces]
    per_label = [1 / num_labels[piece.trainee] for piece in each.pieces]
    smoothing = [float(owner.experiment.training.label_smoothing_factor) for owner in owners]
    static = setup.static_passes if not any(smoothing) else None
    try:
        if static is not None:
            staged = static.staged(signature_of(trainees, each, num_labels))
            return static.losses(staged or stage(setup, static, trainees, each, num_labels), owners)
        batch = batch_of(setup, trainees, each, is_static=False)
        rows = ownership_of(batch, trainees, each, examples)
        # The backward pass recomputes activations under checkpointing: it needs to know whose rows.
        with bank.rows(rows):
            factors = torch.tensor(per_label).to(bank.base.device)
            losses = part_losses(bank.base, batch.to(bank.base.device), smoothing) * factors
            losses.sum().backward()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return losses.detach()


def _drop_gradients(trainees: Sequence[Trainee]) -> None:
    for trainee in trainees:
        clear_gradients(trainee.optimizer)


def _narrower(too_large: Pass) -> int:
    """Half of what a pass held, but as much as one experiment's share of it."""
    half = too_large.num_tokens // 2
    if len(too_large.pieces) == 1:
        return half
    return max(half, *(piece.num_tokens for piece in too_large.pieces))

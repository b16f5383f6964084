"""The training's response to a lack of memory: smaller passes, or the failure of one experiment.

Nothing has been updated when a pass does not fit, so the step starts over with half the tokens per pass. If
even a single row does not fit, but fits with another adapter, its own adapter is at fault: this experiment
fails, and the others train as if it had never been there. If the row fits with no adapter, the machine is
short of memory, and training stops so that it can be resumed. Limits are part of the training state, because
they determine the order in which sums are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.data.pass_plan import Pass, Slice
from loraloom.errors import TrainingError
from loraloom.text.message import Message
from loraloom.training.engine import Engine, Trainee
from loraloom.training.out_of_memory import release_memory
from loraloom.training.passes import PassTooLargeError, run_pass
from loraloom.training.state import Limits


def make_room(engine: Engine, trainees: list[Trainee], too_large: Pass) -> None:
    """Make the next attempt at a step need less memory: with smaller passes, or without one experiment.

    Args:
        engine: the training.
        trainees: the experiments that take the step; an experiment that fails is removed from the list,
            and all gradients are set to zero.
        too_large: the pass that did not fit in memory.

    Raises:
        TrainingError: a single row does not fit in memory with any adapter of the step.
    """
    drop_gradients(trainees)
    if engine.setup.static_passes is not None:
        engine.setup.static_passes.clear()
    release_memory()
    if too_large.num_rows > 1:
        step = engine.state.tick + 1
        engine.state.narrow(step, Limits(pass_tokens=_narrower(too_large)))
        engine.report_limit(step, "training", too_large.num_tokens)
        return
    (row,) = too_large.slices
    is_alone = len(trainees) == 1
    if engine.setup.has_one_experiment or not (is_alone or _fits_with_another(engine, trainees, row)):
        raise _row_too_large(engine, row)
    _fail(engine, trainees, row)


def _row_too_large(engine: Engine, row: Slice) -> TrainingError:
    number = row.rows[0] + 1
    return TrainingError(
        Message("there is not enough memory for a step, even one row at a time; checkpoints are unchanged"),
        where=str(engine.setup.run.folder),
        found=Message("training row {number}, {num_tokens} tokens", number=number, num_tokens=row.num_tokens),
        fix=Message(
            "Set training.gradient_checkpointing: true, or lower data.max_source_length and "
            "data.max_target_length."
        ),
    )


def drop_gradients(trainees: Sequence[Trainee]) -> None:
    """Set the gradients of these experiments to zero."""
    for trainee in trainees:
        trainee.optimizer.zero_grad(set_to_none=False)


def _narrower(too_large: Pass) -> int:
    """Return half the number of tokens in a pass, but no fewer than the largest of several slices has."""
    half = too_large.num_tokens // 2
    if len(too_large.slices) == 1:
        return half
    return max(half, *(own.num_tokens for own in too_large.slices))


def _fits_with_another(engine: Engine, trainees: Sequence[Trainee], row: Slice) -> bool:
    """Return whether a row that does not fit in memory with its own adapter fits with another adapter."""
    for number in range(len(trainees)):
        if number != row.trainee and _fits(engine, trainees, Slice(number, row.rows, 0, 1, row.num_tokens)):
            return True
    return False


def _fits(engine: Engine, trainees: Sequence[Trainee], row: Slice) -> bool:
    try:
        run_pass(engine, trainees, Pass(0, [row]), [1] * len(trainees))
        fits = True
    except PassTooLargeError:
        fits = False
    fits = all(engine.setup.ranks.exchange(fits))
    drop_gradients(trainees)
    release_memory()
    return fits


def _fail(engine: Engine, trainees: list[Trainee], row: Slice) -> None:
    """Fail the experiment whose adapter leaves no memory for a row, and lift the limits that it caused."""
    trainee, state = trainees[row.trainee], engine.state
    with_others = (
        Message("fits with another adapter, but not with this one")
        if len(trainees) > 1
        else Message("does not fit")
    )
    number, step = row.rows[0] + 1, trainee.progress.step + 1
    trainee.progress.fail(
        Message(
            "out of memory at step {step}: training row {number}, {num_tokens} tokens, "
            "{with_others}; the weights are unchanged by this step",
            step=step,
            number=number,
            num_tokens=row.num_tokens,
            with_others=with_others,
        )
    )
    trainees.remove(trainee)
    state.lift(state.tick + 1)
    engine.report_limit(state.tick + 1, "lifted", row.num_tokens, trainee.name)

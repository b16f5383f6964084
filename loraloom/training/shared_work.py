"""Work that several ranks share: the rows of a step and those of an evaluation.

Every rank trains the same adapters from the same sums of gradients, so their states are equal, and each
independently makes the same decisions. If one rank receives a signal or runs out of memory, it tells the
others before anything changes, and all ranks respond in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from loraloom.data.pass_plan import Pass, Plan, Slice
from loraloom.errors import TrainingError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import row_losses
from loraloom.text.message import Message
from loraloom.training.engine import Engine, SignalReceivedError, Trainee
from loraloom.training.lockstep import lockstep_losses
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.passes import PassTooLargeError, step_losses
from loraloom.training.signals import AgreedStop

Outcome = Literal["done", "stopped", "memory"]
Value = TypeVar("Value")


def shared_step_losses(engine: Engine, trainees: Sequence[Trainee], plans: Sequence[Plan]) -> Tensor:
    """Compute the losses of one step as `step_losses` does, each rank on its slices of the micro-batches.

    Losses and gradients are summed over all ranks; the gradients of a parameter group are one flat tensor.

    Args:
        engine, trainees, plans: as in `step_losses`.

    Raises:
        PassTooLargeError: a pass does not fit in a rank's memory; the error has the same pass on all ranks.
        SignalReceivedError: a signal arrived at a rank between two passes.
        TrainingError: the ranks have diverged.
    """
    before = _standing(engine, trainees)  # the device is idle, so this does not wait
    outcome: Outcome = "done"
    losses, too_large = torch.zeros(0), None
    try:
        losses = rank_losses(engine, trainees, plans)
    except SignalReceivedError:
        outcome = "stopped"
    except PassTooLargeError as error:
        outcome, too_large = "memory", asdict(error.each)
    found = _exchanged(engine, outcome, standing=before, too_large=too_large)
    _require_equal([each["standing"] for each in found], engine)
    outcomes = [each["outcome"] for each in found]
    if "stopped" in outcomes:
        raise SignalReceivedError
    if "memory" in outcomes:
        values = found[outcomes.index("memory")]["too_large"]
        raise PassTooLargeError(Pass(values["micro_batch"], [Slice(**own) for own in values["slices"]]))
    gradients = [p.grad for t in trainees for p in t.optimizer.updated if p.grad is not None]
    engine.setup.ranks.add([losses, *gradients])
    return losses


def rank_losses(engine: Engine, trainees: Sequence[Trainee], plans: Sequence[Plan]) -> Tensor:
    """Compute the losses of this rank's rows of one step; see `step_losses` and `lockstep_losses`."""
    compute = lockstep_losses if engine.bank.base.is_sharded else step_losses
    return compute(engine, trainees, plans)


def shared_eval_losses(engine: Engine, *arguments: Any, **options: Any) -> dict[str | None, float]:
    """Compute the loss of each adapter as `eval_losses` does, each rank on some of the batches.

    The batches are those that a single process would compute, and each row's loss comes from one rank, so
    the losses equal those of a single process.

    Args:
        engine: the training.
        arguments, options: as in `eval_losses`.
    """
    _, slots, examples = arguments
    ranks = engine.setup.ranks
    losses = torch.from_numpy(_together(engine, lambda: row_losses(*arguments, **options, ranks=ranks)))
    ranks.add([losses])
    num_labels = int(examples.target_lengths.sum())
    return {slot: float(total / num_labels) for slot, total in zip(slots, losses.numpy().sum(1), strict=True)}


def shared_answers(engine: Engine, *arguments: Any, **options: Any) -> dict[str | None, list[list[int]]]:
    """Generate answers as `answer` does, each rank for some of the batches.

    Args:
        engine: the training.
        arguments, options: as in `answer`.
    """
    ranks = engine.setup.ranks
    own = _together(engine, lambda: answer(*arguments, **options, ranks=ranks))
    # An answer is empty on all ranks but the one that has its row.
    of_ranks = ranks.exchange(list(own.values()))
    return {
        slot: [max(answers, key=len) for answers in zip(*(each[number] for each in of_ranks), strict=True)]
        for number, slot in enumerate(own)
    }


def _together(engine: Engine, compute: Callable[[], Value]) -> Value:
    """Compute a value on each rank; a signal or a lack of memory on one of them stops all of them.

    Raises:
        SignalReceivedError: a signal arrived at a rank.
        MemoryError: a rank ran out of memory.
    """
    outcome: Outcome = "done"
    value: Value | None = None
    try:
        value = compute()
    except SignalReceivedError:
        outcome = "stopped"
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        outcome = "memory"
    outcomes = [each["outcome"] for each in _exchanged(engine, outcome)]
    if "stopped" in outcomes:
        raise SignalReceivedError
    if "memory" in outcomes:
        raise MemoryError
    assert value is not None
    return value


def _exchanged(engine: Engine, outcome: Outcome, **more: Any) -> list[dict[str, Any]]:
    """Exchange the outcome of each rank's work, and agree on whether to stop."""
    stop = engine.stop
    asked = stop.own.signal_number if isinstance(stop, AgreedStop) and stop.has_arrived else None
    found = engine.setup.ranks.exchange({"outcome": outcome, "asked": asked, **more})
    if isinstance(stop, AgreedStop):
        stop.agree([each["asked"] for each in found])
    return found


@torch.no_grad()
def _standing(engine: Engine, trainees: Sequence[Trainee]) -> list[Any]:
    """Return what must be equal on all ranks before a step: the tick, and each trainee's step and digest."""
    digests = [sum(int(_digest(p)) for p in t.optimizer.updated) for t in trainees]
    own = [[t.name, t.progress.step, digest] for t, digest in zip(trainees, digests, strict=True)]
    return [engine.state.tick, *own]


def _digest(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits read as int32; different tensors rarely have the same sum."""
    return tensor.detach().view(torch.int32).sum(dtype=torch.int64)


def _require_equal(standings: Sequence[list[Any]], engine: Engine) -> None:
    different = [str(rank) for rank, own in enumerate(standings) if own != standings[0]]
    if different:
        raise TrainingError(
            Message(
                "the ranks diverged before step {step}: the adapters of rank {ranks} differ from "
                "those of rank 0",
                step=engine.state.tick + 1,
                ranks=", ".join(different),
            ),
            where=str(engine.setup.run.folder),
            fix=Message(
                "Give all ranks the same kind of processor or GPU and the same versions, then resume the run."
            ),
        )

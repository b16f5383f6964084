"""Losses and answers on held-out rows during training, for as many rows at once as fit in memory.

An evaluation may take minutes, so a signal interrupts it; if the run is resumed, the evaluation starts again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from loraloom.data.encoding import EncodedSet
from loraloom.errors import TrainingError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.text.message import Message
from loraloom.training.engine import Engine, SignalReceivedError
from loraloom.training.out_of_memory import is_out_of_memory, release_memory
from loraloom.training.shared_work import shared_answers, shared_eval_losses
from loraloom.training.state import Limits

Slot = str | None
Value = TypeVar("Value")


def held_out_losses(engine: Engine, slots: Sequence[Slot], examples: EncodedSet) -> dict[Slot, float]:
    """Compute the loss of each adapter on some rows, in nats per label token.

    Args:
        engine: the training; `per_device_eval_batch_size` rows of each adapter share a pass.
        slots: the adapters; `None` is the base.
        examples: the rows, at least one.

    Raises:
        SignalReceivedError: a signal arrived.
        TrainingError: a single row does not fit in memory.
    """
    setup = engine.setup
    measured = partial(shared_eval_losses, engine) if setup.shares_rows else eval_losses

    def losses(some: Sequence[Slot], batch_size: int) -> dict[Slot, float]:
        return measured(
            setup.bank,
            some,
            examples,
            batch_size=batch_size,
            packing=setup.shared.packing,
            on_rows=lambda done: _check_signals(engine),
        )

    return _within_memory(engine, slots, setup.shared.per_device_eval_batch_size, losses)


def held_out_answers(
    engine: Engine, slots: Sequence[Slot], examples: EncodedSet
) -> dict[Slot, list[list[int]]]:
    """Generate the answers of each adapter to some rows, as token ids.

    Args:
        engine, slots, examples: as in `held_out_losses`.

    Raises:
        SignalReceivedError, TrainingError: as in `held_out_losses`.
    """
    setup = engine.setup
    sources = [example.input_ids.tolist() for example in examples]
    base = setup.bank.base
    answered = partial(shared_answers, engine) if setup.shares_rows else answer
    starts = [base.decoder_start_of(example.labels.tolist()) for example in examples]

    def answers(some: Sequence[Slot], batch_size: int) -> dict[Slot, list[list[int]]]:
        settings = setup.generation.model_copy(update={"batch_size": batch_size})
        return answered(
            setup.bank, some, sources, settings, starts=starts, on_token=lambda: _check_signals(engine)
        )

    return _within_memory(engine, slots, setup.generation.batch_size, answers)


def _check_signals(engine: Engine) -> None:
    if engine.stop.has_arrived if engine.setup.shares_rows else engine.stop:
        raise SignalReceivedError


def _within_memory(
    engine: Engine,
    slots: Sequence[Slot],
    batch_size: int,
    measure: Callable[[Sequence[Slot], int], dict[Slot, Value]],
) -> dict[Slot, Value]:
    """Measure all adapters; whenever memory runs out, start over with half as many rows at once."""
    state = engine.state
    while True:
        if engine.stop:
            raise SignalReceivedError
        most = state.limits_at(state.tick).eval_rows or batch_size * len(slots)
        num_slots = min(len(slots), most)
        size = min(batch_size, most // num_slots)
        measured: dict[Slot, Value] = {}
        try:
            for first in range(0, len(slots), num_slots):
                measured |= measure(slots[first : first + num_slots], size)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return measured
        release_memory()
        _halve(engine, num_slots * size)


def _halve(engine: Engine, tried: int) -> None:
    """Limit evaluations to half as many rows at once.

    Raises:
        TrainingError: even a single row does not fit, or ranks share the base and cannot start over together.
    """
    setup = engine.setup
    if setup.bank.base.is_sharded:
        raise TrainingError(
            Message("there is not enough memory for a pass over the divided base; checkpoints are unchanged"),
            where=str(setup.run.folder),
            fix=Message("Lower training.per_device_eval_batch_size and generation.batch_size."),
        )
    if tried == 1:
        raise TrainingError(
            Message("there is not enough memory to evaluate a single row; checkpoints are unchanged"),
            where=str(setup.run.folder),
            fix=Message("Lower data.max_source_length, data.max_target_length or generation.max_new_tokens."),
        )
    engine.state.narrow(engine.state.tick, Limits(eval_rows=tried // 2))
    engine.report_limit(engine.state.tick, "evaluation", tried)

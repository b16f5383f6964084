"""Losses and answers of held-out rows while training: as many rows at once as memory holds.

A signal does not wait for an evaluation, which may take minutes: it is given up, and the resume makes
it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from loraloom.data.encoding import EncodedSet
from loraloom.errors import TrainingError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.run.events import MemoryLimit, Report
from loraloom.training.out_of_memory import is_out_of_memory, release_memory
from loraloom.training.setup import Setup
from loraloom.training.state import Limits, TrainingState

Slot = str | None
Value = TypeVar("Value")


class SignalCameError(Exception):
    """A signal came before the figures were there."""


def held_out_losses(
    setup: Setup, slots: Sequence[Slot], examples: EncodedSet, state: TrainingState, report: Report
) -> dict[Slot, float]:
    """The loss of each adapter on some rows.

    Args:
        setup: its `per_device_eval_batch_size` rows of each adapter go through the base together.
        slots: whose loss; `None` is the base.
        examples: the rows, at least one.
        state: learns of a limit that memory sets.
        report: told of it.

    Raises:
        SignalCameError: a signal came.
        TrainingError: one row alone is too much for the memory there is.
    """

    def losses(some: Sequence[Slot], batch_size: int) -> dict[Slot, float]:
        return eval_losses(
            setup.bank,
            some,
            examples,
            batch_size=batch_size,
            packing=setup.shared.packing,
            on_rows=lambda done: _heed_signals(setup),
        )

    return _within_memory(setup, slots, setup.shared.per_device_eval_batch_size, state, report, losses)


def held_out_answers(
    setup: Setup, slots: Sequence[Slot], examples: EncodedSet, state: TrainingState, report: Report
) -> dict[Slot, list[list[int]]]:
    """The answers of each adapter to some rows, as token ids.

    Args:
        setup, slots, examples, state, report: as in `held_out_losses`.

    Raises:
        SignalCameError, TrainingError: as in `held_out_losses`.
    """
    sources = [example.input_ids.tolist() for example in examples]
    base = setup.bank.base
    starts = [base.decoder_start_of(example.labels.tolist()) for example in examples]

    def answers(some: Sequence[Slot], batch_size: int) -> dict[Slot, list[list[int]]]:
        settings = setup.generation.model_copy(update={"batch_size": batch_size})
        return answer(
            setup.bank, some, sources, settings, starts=starts, on_token=lambda: _heed_signals(setup)
        )

    return _within_memory(setup, slots, setup.generation.batch_size, state, report, answers)


def _heed_signals(setup: Setup) -> None:
    if setup.stop:
        raise SignalCameError


def _within_memory(
    setup: Setup,
    slots: Sequence[Slot],
    batch_size: int,
    state: TrainingState,
    report: Report,
    measure: Callable[[Sequence[Slot], int], dict[Slot, Value]],
) -> dict[Slot, Value]:
    """Measure all adapters; each time memory runs out, begin anew with half as many rows at once."""
    while True:
        _heed_signals(setup)
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
        _halve(setup, num_slots * size, state, report)


def _halve(setup: Setup, tried: int, state: TrainingState, report: Report) -> None:
    """From now on half as many rows at once.

    Raises:
        TrainingError: it was one row.
    """
    if tried == 1:
        raise TrainingError(
            "there is not enough memory to evaluate a single row; checkpoints are as they were",
            where=str(setup.run.folder),
            fix="Lower data.max_source_length, data.max_target_length or generation.max_new_tokens.",
        )
    limits = state.narrow(state.tick, Limits(eval_rows=tried // 2))
    report(
        MemoryLimit(
            step=state.tick,
            phase="evaluation",
            tried=tried,
            pass_tokens=limits.pass_tokens,
            eval_rows=limits.eval_rows,
        )
    )

"""Computations with a base in `compare` and `predict`; ranks that share a base compute the same passes.

The leader runs the command as a single process does. Before each computation with the base, it announces the
computation to the other ranks, which perform it too and discard the results. After each token and each batch,
all ranks compare the tokens that they have chosen, and agree on whether to stop.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from loraloom.bank.bank import AdapterBank
from loraloom.data.encoding import EncodedSet
from loraloom.data.languages.codes import DecoderStart
from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError, TrainingError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import row_losses
from loraloom.evaluate.movement import movement
from loraloom.recipe import GenerationSettings
from loraloom.run.documents.comparison import Movement
from loraloom.session.rank_agreement import STOPPED, Agreement
from loraloom.text.message import Message
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.signals import StopRequest

Slot = str | None
Answered = dict[Slot, list[list[int]]]
END = "end"


class Passes:
    """Computations with a base that only this process has.

    Args:
        bank: bank with the adapters attached.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank

    def answer(
        self,
        slots: Sequence[Slot],
        sources: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        starts: Sequence[DecoderStart],
        seed: int,
        on_token: Callable[[], None] = lambda: None,
    ) -> Answered:
        """Answer rows; the arguments are those of `evaluate.generation.answer`."""
        return answer(self.bank, slots, sources, settings, starts=starts, seed=seed, on_token=on_token)

    def losses(
        self, slots: Sequence[Slot], examples: EncodedSet, *, batch_size: int
    ) -> npt.NDArray[np.float64]:
        """Compute the loss of each row with each slot, summed over its labels; float64 [slots, rows]."""
        return row_losses(self.bank, slots, examples, batch_size=batch_size)

    def movement(self, slot: str) -> Movement:
        """Compute the movement of an adapter: the size of its ΔW relative to W."""
        return movement(self.bank, slot)

    def agreed(self, stop: StopRequest) -> StopRequest:
        """Return the cancellation token to check; a signal sets it but no longer ends the command at once."""
        stop.leaves_at_once = False
        return stop


class SharedPasses(Passes):
    """Computations with a base that ranks share, as the leader sees them.

    Each computation raises `Interrupted` between tokens and batches, on all ranks, if one rank is asked to
    stop, because torchrun kills ranks that have not ended after 30 seconds.

    Args:
        bank: bank with the same adapters attached as on all ranks.
        ranks: the processes that share the base.
    """

    def __init__(self, bank: AdapterBank, ranks: Ranks) -> None:
        super().__init__(bank)
        self._ranks, self._numbers = ranks, count()
        self._agreement = Agreement(ranks, StopRequest())

    def answer(
        self,
        slots: Sequence[Slot],
        sources: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        starts: Sequence[DecoderStart],
        seed: int,
        on_token: Callable[[], None] = lambda: None,
    ) -> Answered:
        """Answer rows on all ranks."""
        order: dict[str, Any] = {
            "slots": list(slots),
            "sources": [list(map(int, row)) for row in sources],
            "settings": settings.model_dump(mode="json"),
            "starts": [list(start) for start in starts],
            "seed": seed,
        }
        self._tell("answer", order)
        return _answer(self.bank, self._agreement, **order, on_token=on_token)

    def losses(
        self, slots: Sequence[Slot], examples: EncodedSet, *, batch_size: int
    ) -> npt.NDArray[np.float64]:
        """Compute the summed loss of each row with each slot, on all ranks."""
        order: dict[str, Any] = {
            "slots": list(slots),
            "rows": [[each.input_ids.tolist(), each.labels.tolist()] for each in examples],
            "batch_size": batch_size,
        }
        self._tell("losses", order)
        return _losses(self.bank, self._agreement, **order)

    def movement(self, slot: str) -> Movement:
        """Compute the movement of an adapter, on all ranks."""
        self._tell("movement", {"slot": slot})
        return _movement(self.bank, self._agreement, slot=slot)

    def agreed(self, stop: StopRequest) -> StopRequest:
        """Return a cancellation token that all ranks agree on."""
        self._agreement = Agreement(self._ranks, super().agreed(stop))
        return self._agreement.stop

    def end(self) -> None:
        """Announce to the other ranks that there is nothing more to compute."""
        self._ranks.announce(f"pass/{next(self._numbers)}", END)

    def _tell(self, what: str, order: dict[str, Any]) -> None:
        self._agreement.heed()
        self._ranks.announce(f"pass/{next(self._numbers)}", what)
        self._ranks.send(json.dumps(order).encode())


def follow_passes(bank: AdapterBank, ranks: Ranks, stop: StopRequest) -> None:
    """Perform the computations that the leader announces, until it has ended.

    Args:
        bank: bank with the same adapters attached as on all ranks.
        ranks: the processes that share the base.
        stop: the cancellation token of this rank.

    Raises:
        Interrupted: a rank was asked to stop.
        RankError: another rank ended, or does not answer.
    """
    agreement = Agreement(ranks, stop)
    compute: dict[str, Callable[..., object]] = {
        "answer": _answer,
        "losses": _losses,
        "movement": _movement,
    }
    try:
        for number in count():
            what = ranks.wait_for(f"pass/{number}")
            if what == END:
                return
            compute[what](bank, agreement, **json.loads(ranks.send(None)))
    except TrainingError:  # the leader has ended; if that is because of a signal, so does this rank
        agreement.heed()
        stop.raise_if_set(STOPPED)
        raise


def _answer(
    bank: AdapterBank,
    agreement: Agreement,
    *,
    slots: list[Slot],
    sources: list[list[int]],
    settings: dict[str, Any],
    starts: list[list[Any]],
    seed: int,
    on_token: Callable[[], None] = lambda: None,
) -> Answered:
    own = GenerationSettings.model_validate(settings)

    def before_token() -> None:
        if own.num_beams > 1:  # for these, nothing is compared until a batch is answered
            agreement.compare()
        on_token()
        agreement.heed()

    with _failures_explained(agreement.ranks):
        found = answer(
            bank,
            slots,
            sources,
            own,
            starts=[DecoderStart(*start) for start in starts],
            seed=seed,
            on_token=before_token,
            on_answers=agreement.compare_newest,
        )
    agreement.compare(list(found.values()))
    return found


def _losses(
    bank: AdapterBank,
    agreement: Agreement,
    *,
    slots: list[Slot],
    rows: list[list[list[int]]],
    batch_size: int,
) -> npt.NDArray[np.float64]:
    def after_batch(done: int) -> None:
        agreement.compare()
        agreement.heed()

    examples = EncodedSet([source for source, _ in rows], [target for _, target in rows])
    with _failures_explained(agreement.ranks):
        return row_losses(bank, slots, examples, batch_size=batch_size, on_rows=after_batch)


def _movement(bank: AdapterBank, agreement: Agreement, *, slot: str) -> Movement:
    with _failures_explained(agreement.ranks):
        found = movement(bank, slot)
    agreement.compare()
    return found


@contextmanager
def _failures_explained(ranks: Ranks) -> Iterator[None]:
    """Raise a clear error if a rank ends, or memory runs out: the other ranks cannot repeat a pass.

    Raises:
        RankError: a rank has ended, or does not answer.
        RunError: memory ran out.
    """
    try:
        # Here, where a signal does not end the command at once: torchrun sends one as soon as a rank ends.
        with ranks.named_gatherings():
            yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    raise RunError(
        Message("there is not enough memory for a pass over the divided base"),
        fix=Message(
            "Answer with fewer adapters at a time (--experiment), or divide the base among more ranks."
        ),
    )

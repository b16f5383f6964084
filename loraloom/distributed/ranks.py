"""The interface of training code to the processes of a run, and its version for a single process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from loraloom.data.encoding import EncodedSet
    from loraloom.data.pass_plan import SliceRange, SliceRanges
    from loraloom.run.events import Report


class Ranks:
    """The processes of a training run; in this class, a single process, which computes every row.

    `process_group.ProcessGroup` is the subclass for several processes. All ranks must call `exchange`, `send`
    and `add` in the same order.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process writes the run folder and communicates with the user."""
        return self.rank == 0

    def slices(self, plans: Sequence[Sequence[Sequence[int]]], examples: EncodedSet) -> SliceRanges | None:
        """Return the slice of each micro-batch that this rank computes; None if it computes all rows.

        Args:
            plans: for each experiment, the rows of its micro-batches.
            examples: the train set.
        """
        return None

    def owns(self, number: int) -> bool:
        """Return whether this rank computes the evaluation batch with the given number."""
        return True

    def exchange(self, value: Any) -> list[Any]:
        """Send a JSON value to every rank, and return the values of all ranks."""
        return [value]

    def announce(self, name: str, value: Any) -> None:
        """Store a JSON value for the other ranks, under a name."""

    def wait_for_all(self, name: str) -> None:
        """Wait until every other rank has announced a value under `NAME/RANK`, where RANK is its number."""

    def wait_for(self, name: str) -> Any:
        """Wait for the value that the leader announces under a name."""
        raise AssertionError("a single process has no leader")

    def send(self, content: bytes | None) -> bytes:
        """Send the leader's bytes, of any size, to every rank and return them; other ranks pass None."""
        return content or b""

    def counting(self, report: Report) -> Report:
        """Wrap a `Report`, so that each event also tells the other ranks that this rank is alive."""
        return report

    @contextmanager
    def named_gatherings(self) -> Iterator[None]:
        """Convert torch's weight-gathering errors, in a `with` block, to errors that name the lost rank."""
        yield

    @contextmanager
    def staying_alive(self) -> Iterator[None]:
        """Tell the other ranks repeatedly, during a `with` block, that this rank is alive."""
        yield

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks; the sums are bit-identical on all ranks."""


ONE_PROCESS = Ranks()


def divide(
    micro_batches: Sequence[Sequence[int]], examples: EncodedSet, rank: int, size: int
) -> list[SliceRange]:
    """Return a rank's slice of each micro-batch of a step, so that ranks have about equally many tokens.

    A rank's slices are consecutive rows of the step, so few micro-batches are divided between ranks: if there
    are as many micro-batches as ranks, each rank has about one. A rank may have no rows.

    >>> rows = EncodedSet([[1], [1], [1], [1]], [[1], [1], [1], [1]])
    >>> [divide([[0, 1], [2, 3]], rows, rank, 3) for rank in range(3)]
    [[(0, 1), (0, 0)], [(1, 2), (0, 1)], [(2, 2), (1, 2)]]

    Args:
        micro_batches: the rows of the whole step, by micro-batch.
        examples: the train set.
        rank, size: number of the rank, and number of ranks.
    """
    import numpy as np  # imported only here, because every command imports this module

    tokens = examples.num_tokens([row for rows in micro_batches for row in rows])
    middles = np.cumsum(tokens) - tokens / 2
    owners = np.minimum((middles * size / max(1, tokens.sum())).astype(np.int64), size - 1)
    first, stop = np.searchsorted(owners, [rank, rank + 1]).tolist()
    slices, start = [], 0
    for rows in micro_batches:
        slices.append((min(max(first - start, 0), len(rows)), min(max(stop - start, 0), len(rows))))
        start += len(rows)
    return slices

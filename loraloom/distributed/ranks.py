"""The processes of a training run, as its code sees them; a single process exchanges nothing."""

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
    """The processes of a training run: in this class, a single one, to which every row belongs.

    `process_group.ProcessGroup` is the class for several. All ranks call every method in the same order.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process has the run folder and communicates with the user."""
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
        """Wait until every other rank has announced a value under `NAME/RANK`, with its number as RANK."""

    def wait_for(self, name: str) -> Any:
        """Wait for the value that the leader announces under a name."""
        raise AssertionError("a single process has no leader")

    def send(self, content: bytes | None) -> bytes:
        """Send the leader's bytes, of any size, to every rank and return them; other ranks pass None."""
        return content or b""

    def counting(self, report: Report) -> Report:
        """Wrap a `Report`: each event also shows the other ranks that this one is alive."""
        return report

    @contextmanager
    def named_gatherings(self) -> Iterator[None]:
        """Replace torch's error for weights that cannot be gathered by one that names the rank that ended."""
        yield

    @contextmanager
    def staying_alive(self) -> Iterator[None]:
        """Show the other ranks, again and again during a `with` block, that this one is alive."""
        yield

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks; the sums are identical to the bit on all ranks."""


ONE_PROCESS = Ranks()


def divide(
    micro_batches: Sequence[Sequence[int]], examples: EncodedSet, rank: int, size: int
) -> list[SliceRange]:
    """Return a rank's slice of each micro-batch of a step, so that all ranks have about as many tokens.

    A rank's slices are consecutive rows of the step, so few micro-batches are divided: if there are as many
    micro-batches as ranks, each rank has about one. A rank may have no rows.

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

"""The plan of a step's passes: which rows go through the base together, within a budget of tokens.

A pass takes the micro-batches of as many experiments as memory allows. If memory runs out, the passes are
planned again with fewer tokens (`training/memory.py`): fewer experiments share a pass, and then a micro-batch
itself is cut into slices of fewer rows. The optimizer batch stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loraloom.data.encoding import EncodedSet

# The micro-batches of one trainee in one step: for each, its rows of the train set.
Plan = Sequence[Sequence[int]]
# The first row of a slice within its micro-batch, and the row after its last.
SliceRange = tuple[int, int]
# For each trainee, the slice of each micro-batch that a process computes.
SliceRanges = Sequence[Sequence[SliceRange]]


@dataclass(frozen=True)
class Slice:
    """Consecutive rows of one trainee's micro-batch: all of them, unless memory allows fewer.

    Args:
        trainee: index of the trainee among those of the step.
        micro_batch: the rows of the whole micro-batch.
        first, stop: the slice contains `micro_batch[first:stop]`.
        num_tokens: source and target tokens of the slice.
    """

    trainee: int
    micro_batch: Sequence[int]
    first: int
    stop: int
    num_tokens: int

    @property
    def rows(self) -> Sequence[int]:
        """The rows of this slice, as indices into the train set."""
        return self.micro_batch[self.first : self.stop]


@dataclass(frozen=True)
class Pass:
    """The rows that go through the base together: at most one slice of each trainee.

    Args:
        micro_batch: the number of the micro-batch within the step, from 0.
        slices: the slices, in the order of the trainees.
    """

    micro_batch: int
    slices: Sequence[Slice]

    @property
    def num_tokens(self) -> int:
        """The number of source and target tokens of all slices."""
        return sum(own.num_tokens for own in self.slices)

    @property
    def num_rows(self) -> int:
        """The number of rows of all slices."""
        return sum(len(own.rows) for own in self.slices)


def plan_passes(
    plans: Sequence[Plan],
    examples: EncodedSet,
    together: int,
    limit: int | None,
    ranges: SliceRanges | None = None,
) -> Iterator[Pass]:
    """Decide which rows share a pass, taking micro-batches in order and, within each, trainees in order.

    Args:
        plans: the micro-batches of each trainee.
        examples: the train set.
        together: maximum number of tokens of several trainees in one pass; a single trainee may have more.
        limit: maximum number of tokens of any pass that has more than one row; None if there is no limit.
        ranges: the slice of each micro-batch that this process computes; None for whole micro-batches.
    """
    most = together if limit is None else min(together, limit)
    for number in range(max(len(plan) for plan in plans)):
        passes: list[list[Slice]] = []
        room = 0
        for trainee, plan in enumerate(plans):
            if number >= len(plan):
                continue
            first, stop = (0, len(plan[number])) if ranges is None else ranges[trainee][number]
            for own in _cut(Slice(trainee, plan[number], first, stop, 0), examples, limit):
                if not passes or own.num_tokens > room:
                    passes.append([])
                    room = most
                passes[-1].append(own)
                room -= own.num_tokens
        yield from (Pass(number, slices) for slices in passes)


def _cut(whole: Slice, examples: EncodedSet, limit: int | None) -> Iterator[Slice]:
    """Cut a slice of a micro-batch into slices of at most `limit` tokens; a single row may have more.

    No two of these slices share a pass, because any two neighbouring slices together exceed the limit.
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
    """Count the label tokens in one step of a trainee."""
    return sum(int(examples.target_lengths[rows].sum()) for rows in plan)

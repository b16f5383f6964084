"""Which rows of a step go through the base together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loraloom.data.encoding import EncodedSet
from loraloom.training.setup import NO_LIMIT


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
    for number, own in enumerate(examples.num_tokens(rows).tolist()):
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


def num_labels_of(plans: Sequence[Sequence[Sequence[int]]], examples: EncodedSet) -> list[int]:
    """Label tokens of each trainee's step."""
    return [sum(int(examples.target_lengths[rows].sum()) for rows in plan) for plan in plans]

"""Truncation of sources that exceed the limit: least important pieces first.

    oldest turns of the history ──▶ the longest context (system text, input, other template placeholders)
        ──▶ the recipe's own text ──▶ only if the question alone is too long: the question's end

Text is cut at whole characters and every attempt is tokenized again, because the sub-words at a cut
differ from those of the whole text. `truncate` requests the tokens of one attempt at a time, so that the
attempts of many rows are tokenized together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from loraloom.data.sources.source import Kind, Piece, join
from loraloom.text.message import Message, joined

Ids = list[int]
Attempt = Generator[str, Ids, tuple[int, Ids]]
Tokenize = Callable[[list[str]], list[Ids]]

AT_THE_END = 5  # in addition to the kinds: `data.source_truncation: right` cuts regardless of them
CUT_NAMES: Mapping[int, str] = {
    Kind.HISTORY: Message("the history"),
    Kind.SYSTEM: Message("the system text"),
    Kind.INPUT: Message("the input"),
    Kind.FIXED: Message("the prefix or template"),
    Kind.QUESTION: Message("the question itself"),
    AT_THE_END: Message("the end"),
}
# If the question must be cut, the recipe's own text stays complete up to this share of the limit.
FIXED_SHARE = 1 / 4
# Proportional guesses converge almost at once; halving guarantees termination.
GUESSES = 8


@dataclass(frozen=True, slots=True)
class Truncation:
    """A source after truncation to the limit.

    Args:
        ids: its token ids, EOS last.
        cuts: what was cut, one bit for each kind of piece.
    """

    ids: Ids
    cuts: int


def truncate_all(
    rows: Iterable[tuple[Sequence[Piece], int]], limit: int, tokenize: Tokenize
) -> list[Truncation]:
    """Truncate every source to the limit.

    Args:
        rows: pieces of each source, and the number of tokens of its whole text, which exceeds `limit`.
        limit: largest number of tokens of a source, including EOS.
        tokenize: converts texts to token ids, EOS last, without truncation.
    """
    searches = [truncate(pieces, num_tokens, limit) for pieces, num_tokens in rows]
    done: dict[int, Truncation] = {}
    waiting = {number: next(search) for number, search in enumerate(searches)}
    while waiting:
        answers = tokenize(list(waiting.values()))
        asked, waiting = list(waiting), {}
        for number, ids in zip(asked, answers, strict=True):
            try:
                waiting[number] = searches[number].send(ids)
            except StopIteration as stop:
                done[number] = stop.value
    return [done[number] for number in range(len(searches))]


def truncate(pieces: Sequence[Piece], num_tokens: int, limit: int) -> Generator[str, Ids, Truncation]:
    """Truncate one source to the limit.

    Args:
        pieces: pieces of a text of `num_tokens` tokens, which exceeds `limit`.

    Yields:
        Each text to tokenize; the caller must send back its token ids.
    """
    left, cuts, tokens = list(pieces), 0, num_tokens
    turns = [piece for piece in left if piece.kind == Kind.HISTORY]
    if turns:
        cuts |= 1 << Kind.HISTORY
        ids = yield join(_with_turns(left, 0))
        if len(ids) <= limit:
            return Truncation((yield from _cut_history(left, len(turns), ids, tokens, limit)), cuts)
        left, tokens = _with_turns(left, 0), len(ids)
    fixed = [piece for piece in left if piece.kind == Kind.FIXED]
    is_short = bool(fixed) and len((yield join(fixed))) <= limit * FIXED_SHARE
    groups = [{Kind.SYSTEM, Kind.INPUT} if is_short else {Kind.SYSTEM, Kind.INPUT, Kind.FIXED}]
    groups += [{Kind.FIXED}] if is_short else []
    for group in groups:
        cut = [piece for piece in left if piece.kind in group]
        if not cut:
            continue
        shorter = _at_level(left, group, 0)
        ids = yield join(shorter)
        if len(ids) <= limit:
            level, ids = yield from _cut_at_level(left, group, ids, tokens, limit)
            return Truncation(ids, cuts | _bits(piece for piece in cut if len(piece.text) > level))
        if is_short and group == {Kind.FIXED}:
            break  # the question must be cut anyway; cutting it a little more preserves the prefix
        left, tokens, cuts = shorter, len(ids), cuts | _bits(cut)
    ids = yield join(_at_level(left, {Kind.QUESTION}, 0))
    _, ids = yield from _cut_at_level(left, {Kind.QUESTION}, ids, tokens, limit)
    return Truncation(ids, cuts | 1 << Kind.QUESTION)


def _cut_history(
    pieces: Sequence[Piece], num_turns: int, none: Ids, tokens: int, limit: int
) -> Generator[str, Ids, Ids]:
    """Keep the newest turns that fit; if not even the newest turn fits, keep its end.

    Args:
        none: token ids without history.
        tokens: number of tokens with the whole history.
    """
    kept, ids = yield from _most(
        lambda turns: join(_with_turns(pieces, turns)), none, num_turns, tokens, limit
    )
    if kept:
        return ids
    newest = next(piece for piece in reversed(pieces) if piece.kind == Kind.HISTORY)
    length = len(newest.text)

    def attempt(characters: int) -> str:
        end = replace(newest, text=newest.text[length - characters :])
        return join(end if piece is newest else piece for piece in _with_turns(pieces, 1))

    _, ids = yield from _most(attempt, none, length, tokens, limit)
    return ids


def _cut_at_level(pieces: Sequence[Piece], group: set[Kind], none: Ids, tokens: int, limit: int) -> Attempt:
    """Find how many characters each piece of a group may keep, so that the longest pieces are cut first."""
    longest = max(len(piece.text) for piece in pieces if piece.kind in group)
    return (
        yield from _most(lambda level: join(_at_level(pieces, group, level)), none, longest, tokens, limit)
    )


def _most(attempt: Callable[[int], str], none: Ids, top: int, tokens: int, limit: int) -> Attempt:
    """Find the largest number below `top` for which the text fits, and the token ids of this text.

    It must be exactly the largest number, so that texts with equal beginnings are cut at the same place.

    Args:
        attempt: returns the text for a number; a larger number gives a longer text.
        none: token ids of the text for 0, which fits or is the shortest possible.
        tokens: number of tokens of the text for `top`, which does not fit.
    """
    low, high, ids, num_attempts = 0, top, none, 0
    while high - low > 1:
        share = (limit - len(ids)) / max(1, tokens - len(ids))
        guess = low + int(share * (high - low)) if num_attempts < GUESSES else (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        found = yield attempt(guess)
        num_attempts += 1
        if len(found) <= limit:
            low, ids = guess, found
        else:
            high, tokens = guess, len(found)
    return low, ids


def _with_turns(pieces: Sequence[Piece], number: int) -> list[Piece]:
    """Keep only the given number of newest turns."""
    turns = [place for place, piece in enumerate(pieces) if piece.kind == Kind.HISTORY]
    dropped = set(turns[: len(turns) - number])
    return [piece for place, piece in enumerate(pieces) if place not in dropped]


def _at_level(pieces: Sequence[Piece], group: set[Kind], level: int) -> list[Piece]:
    """Keep at most `level` characters of each piece of a group."""
    return [
        replace(piece, text=_beginning(piece, level)) if piece.kind in group else piece for piece in pieces
    ]


def _beginning(piece: Piece, level: int) -> str:
    """Keep a piece's first characters; the recipe's own text also keeps the white space at its end.

    There is no gap after the recipe's own text, so without this white space the next piece would follow
    it immediately: `… into EnglishHow are you?`.
    """
    text = piece.text[:level]
    if piece.kind == Kind.FIXED and text and not text[-1].isspace():
        text += piece.text[max(level, len(piece.text.rstrip())) :]
    return text


def _bits(pieces: Iterable[Piece]) -> int:
    bits = 0
    for piece in pieces:
        bits |= 1 << piece.kind
    return bits


def describe_truncation(cuts: npt.NDArray[np.uint8]) -> str:
    """Describe what was cut, in how many rows: `the history in 12, the input in 1`; "" if nothing was.

    Args:
        cuts: [rows], one bit for each kind of piece.
    """
    counts = {name: int((cuts >> kind & 1).sum()) for kind, name in CUT_NAMES.items()}
    return joined(
        ", ",
        (Message("{name} in {count:,}", name=name, count=count) for name, count in counts.items() if count),
    )

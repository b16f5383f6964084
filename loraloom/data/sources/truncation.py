"""What a source loses that is too long for its limit: what is least worth first, and never the question.

    oldest turns of the history ──▶ the longest context (system text, input, a template's other holes)
        ──▶ the recipe's own text ──▶ only if the question alone is too long: the question's end

The cutting is done on text, at whole characters, and each attempt is tokenized anew: sub-words at a cut are
others than those of the whole text. `shorten` asks for the tokens of one attempt at a time, so that the
attempts of many rows are tokenized together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from loraloom.data.sources.source import Kind, Piece, join

Ids = list[int]
Attempt = Generator[str, Ids, tuple[int, Ids]]
Tokenize = Callable[[list[str]], list[Ids]]

AT_THE_END = 5  # beside the kinds: `data.source_truncation: right` does not ask what stands there
CUT_NAMES: Mapping[int, str] = {
    Kind.HISTORY: "the history",
    Kind.SYSTEM: "the system text",
    Kind.INPUT: "the input",
    Kind.FIXED: "the prefix or template",
    Kind.QUESTION: "the question itself",
    AT_THE_END: "the end",
}
# The recipe's own text stays whole, beside a question that must be cut, up to this share of the limit.
FIXED_SHARE = 1 / 4
# Guesses by proportion are nearly right at once; halving is sure to end.
GUESSES = 8


@dataclass(frozen=True, slots=True)
class Truncation:
    """A source that fits.

    Args:
        ids: its tokens, EOS last.
        cuts: what was cut, a bit for each kind.
    """

    ids: Ids
    cuts: int


def truncate_all(
    rows: Iterable[tuple[Sequence[Piece], int]], limit: int, tokenize: Tokenize
) -> list[Truncation]:
    """Cut every source to its limit.

    Args:
        rows: the pieces of each, and the tokens of its whole text, which are more than `limit`.
        limit: tokens kept, EOS included.
        tokenize: texts to token ids, EOS last, nothing cut.
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
    """Cut one source to its limit.

    Args:
        pieces: of a text of `num_tokens` tokens, more than `limit`.

    Yields:
        A text whose tokens are to be sent back.
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
            break  # the question must be cut anyway: a little more of it, and the prefix stays
        left, tokens, cuts = shorter, len(ids), cuts | _bits(cut)
    ids = yield join(_at_level(left, {Kind.QUESTION}, 0))
    _, ids = yield from _cut_at_level(left, {Kind.QUESTION}, ids, tokens, limit)
    return Truncation(ids, cuts | 1 << Kind.QUESTION)


def _cut_history(
    pieces: Sequence[Piece], num_turns: int, none: Ids, tokens: int, limit: int
) -> Generator[str, Ids, Ids]:
    """The newest turns that fit; of a newest that does not fit, what is nearest to the question.

    Args:
        none: the tokens without history.
        tokens: with all of it.
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
    """The most characters that each piece of a group may keep, so that the longest are cut first."""
    longest = max(len(piece.text) for piece in pieces if piece.kind in group)
    return (
        yield from _most(lambda level: join(_at_level(pieces, group, level)), none, longest, tokens, limit)
    )


def _most(attempt: Callable[[int], str], none: Ids, top: int, tokens: int, limit: int) -> Attempt:
    """The largest number below `top` whose text fits, and its tokens.

    The largest, not one that is near: texts that begin alike must be cut at one place, whatever follows.

    Args:
        attempt: a number to a text that grows with it.
        none: the tokens at 0, which fit, or are as few as can be.
        tokens: how many there are at `top`, which do not fit.
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
    """With so many of the newest turns."""
    turns = [place for place, piece in enumerate(pieces) if piece.kind == Kind.HISTORY]
    dropped = set(turns[: len(turns) - number])
    return [piece for place, piece in enumerate(pieces) if place not in dropped]


def _at_level(pieces: Sequence[Piece], group: set[Kind], level: int) -> list[Piece]:
    """With no more than so many characters of each piece of a group."""
    return [
        replace(piece, text=_beginning(piece, level)) if piece.kind in group else piece for piece in pieces
    ]


def _beginning(piece: Piece, level: int) -> str:
    """A piece's first characters; the recipe's own text keeps the white space at its end, if anything.

    No gap stands after it, so what follows would melt with it: `… into EnglishHow are you?`.
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
    """What was cut in how many rows: `the history in 12, the question itself in 1`; "" for nothing.

    Args:
        cuts: [rows], a bit for each kind.
    """
    counts = {name: int((cuts >> kind & 1).sum()) for kind, name in CUT_NAMES.items()}
    return ", ".join(f"{name} in {count:,}" for name, count in counts.items() if count)

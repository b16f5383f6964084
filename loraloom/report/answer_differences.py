"""Differences between an answer and the base's answer to the same row, marked for readers."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher

# A word of Latin letters or digits, some white space, or one other character, such as a Chinese one.
_UNITS = re.compile(r"[0-9A-Za-z_\u00c0-\u024f]+|\s+|.", re.DOTALL)
# Below this common share, marks would be scattered over the text and show nothing.
LEAST_IN_COMMON = 0.35
# Equal pieces shorter than this between two differing ones are marked together with them.
LEAST_EQUAL = 2
# The cost of comparing grows with the pairs of equal units; an answer stuck in a loop has very many.
MOST_PAIRS = 20_000
_CLAUSES = re.compile(r"[^，。！？；：、,.!?;:\n]*[，。！？；：、,.!?;:\n]+\s*|[^，。！？；：、,.!?;:\n]+")


@dataclass(frozen=True)
class AnswerDifference:
    """An answer, split into pieces.

    Args:
        pieces: pairs of a text and whether it differs from the base's answer; an empty text that differs
            marks a place where only the base's answer has text. The list is empty if the answers have too
            little in common to mark anything.
    """

    pieces: list[tuple[str, bool]]


def mark_difference(base: str, answer: str) -> AnswerDifference:
    """Mark where an answer differs from the base's: by words; in long texts by clauses or as one block."""
    for units in (_UNITS, _CLAUSES):
        ours, theirs = units.findall(answer), units.findall(base)
        if _num_pairs(ours, theirs) <= MOST_PAIRS:
            return _mark_units(theirs, ours)
    return _mark_middle(base, answer)


def _num_pairs(ours: list[str], theirs: list[str]) -> int:
    counts = Counter(theirs)
    return sum(number * counts[unit] for unit, number in Counter(ours).items())


def _mark_units(theirs: list[str], ours: list[str]) -> AnswerDifference:
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    # The first two are upper bounds of the third and much cheaper.
    for share_in_common in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio):
        if share_in_common() < LEAST_IN_COMMON:
            return AnswerDifference([])
    return AnswerDifference(_pieces(matcher, ours))


def _mark_middle(base: str, answer: str) -> AnswerDifference:
    start = _num_equal(base, answer)
    end = _num_equal(base[start:][::-1], answer[start:][::-1])
    if start + end < LEAST_IN_COMMON * len(answer):
        return AnswerDifference([])
    middle = answer[start : len(answer) - end]
    pieces = [(answer[:start], False), (middle, base != answer), (answer[len(answer) - end :], False)]
    return AnswerDifference([(text, differs) for text, differs in pieces if text or differs])


def _num_equal(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def _pieces(matcher: SequenceMatcher[str], ours: list[str]) -> list[tuple[str, bool]]:
    codes = matcher.get_opcodes()
    pieces: list[tuple[str, bool]] = []
    for number, (kind, _, _, start, end) in enumerate(codes):
        is_inside = 0 < number < len(codes) - 1
        differs = kind != "equal" or (is_inside and end - start < LEAST_EQUAL)
        text = "".join(ours[start:end])
        if pieces and pieces[-1][1] == differs:
            pieces[-1] = (pieces[-1][0] + text, differs)
        else:
            pieces.append((text, differs))
    return pieces

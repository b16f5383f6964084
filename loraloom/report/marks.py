"""Where an answer differs from the base's, marked so that a reader finds it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

# A word of Latin letters or digits, some white space, or one character of anything else (a Chinese one).
_UNITS = re.compile(r"[0-9A-Za-z_\u00c0-\u024f]+|\s+|.", re.DOTALL)
# Below this share in common, marks would cover the text in confetti and show nothing.
LEAST_IN_COMMON = 0.35
# Equal stretches shorter than this, between two that differ, are marked with them.
LEAST_EQUAL = 2
# Comparing takes time with the product of the lengths.
MOST_UNITS = 1500


@dataclass(frozen=True)
class Marked:
    """An answer in pieces, each with whether it differs from the base's.

    Args:
        pieces: (text, differs).
        is_wholly_different: too little is in common to mark anything.
    """

    pieces: list[tuple[str, bool]]
    is_wholly_different: bool = False


def mark(base: str, answer: str) -> Marked:
    """Mark in an answer what is not in the base's."""
    ours, theirs = _UNITS.findall(answer), _UNITS.findall(base)
    if max(len(ours), len(theirs)) > MOST_UNITS or not ours or not theirs:
        return Marked([(answer, False)], is_wholly_different=True)
    matcher = SequenceMatcher(None, theirs, ours, autojunk=False)
    # Both are upper bounds of the true ratio and cost far less.
    if matcher.real_quick_ratio() < LEAST_IN_COMMON or matcher.quick_ratio() < LEAST_IN_COMMON:
        return Marked([(answer, False)], is_wholly_different=True)
    if matcher.ratio() < LEAST_IN_COMMON:
        return Marked([(answer, False)], is_wholly_different=True)
    return Marked(_pieces(matcher, ours))


def _pieces(matcher: SequenceMatcher[str], ours: list[str]) -> list[tuple[str, bool]]:
    codes = matcher.get_opcodes()
    pieces: list[tuple[str, bool]] = []
    for number, (kind, _, _, start, end) in enumerate(codes):
        is_inside = 0 < number < len(codes) - 1
        differs = kind != "equal" or (is_inside and end - start < LEAST_EQUAL)
        text = "".join(ours[start:end])
        if not text:
            continue
        if pieces and pieces[-1][1] == differs:
            pieces[-1] = (pieces[-1][0] + text, differs)
        else:
            pieces.append((text, differs))
    return pieces

"""Correction of mistyped names: only typing errors are corrected, never a different word.

`max_samples` differs from `max_steps` by no more letters than many typos do, but it means something else.
Therefore words are compared one by one, and each may differ in one or two letters.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 200  # number of characters that are compared
_LONG = 9  # number of characters of a name in which one differing letter is never another meaning


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the known name that a mistyped one most likely means, or "" if no typo explains it.

    >>> nearest("lerning_rate", ["learning_rate"]), nearest("max_samples", ["max_steps"])
    ('learning_rate', '')
    """
    plain = _plain(name[:LONGEST])
    found = [(slips, known) for known in names if (slips := _slips(plain, _plain(known))) is not None]
    return min(found, key=lambda pair: pair[0])[1] if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _slips(name: str, known: str) -> int | None:
    """Count the typos that turn one name into the other; None if there are too many."""
    words, known_words = name.split("_"), known.split("_")
    if len(words) > 1 and len(words) < len(known_words) and set(words) <= set(known_words):
        return len(known) - len(name)  # a word is missing: max_grad for max_grad_norm
    whole = _distance(name.replace("_", ""), known.replace("_", ""))
    if len(words) != len(known_words):
        return _allowed(whole, name, known)
    if whole == 1 and len(known) >= _LONG:  # `report_ot`: a word of two letters has no typo of its own
        return whole
    ways = [zip(words, known_words, strict=True), zip(sorted(words), sorted(known_words), strict=True)]
    counts = []
    for way in ways:
        of_words = [_allowed(_distance(a, b), a, b) for a, b in way]
        counts += [sum(filter(None, of_words))] if None not in of_words else []
    return min(counts) if counts and _allowed(min(counts), name, known) is not None else None


def _allowed(distance: int, name: str, known: str) -> int | None:
    """Return the distance if it is small enough to be a typo in names of this length; otherwise None."""
    length = min(len(name), len(known))
    return distance if distance <= (0 if length < 3 else 1 if length < 6 else 2) else None


def _distance(a: str, b: str) -> int:
    """Count insertions, deletions, substitutions and transpositions of letters (Damerau, 1964)."""
    if abs(len(a) - len(b)) > 2:  # more than is allowed in any name
        return LONGEST
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]

"""Rows that repeat one another: in the training part, and across the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from loraloom.checks.data.code_points import strip_marks
from loraloom.checks.data.data_view import DataView, first_few, of_sample, places, sample, share
from loraloom.checks.data.near_duplicates import SHINGLE, SHORTEST, SIMILAR, near_copies
from loraloom.checks.finding import Finding
from loraloom.data.examples import Example
from loraloom.data.sources.source import pieces_of
from loraloom.data.splitting.groups import source_key
from loraloom.data.splitting.split import HELD_OUT

SHARED_BY = 5  # rows: what so many of them have tells none of them from another
SIMILAR_WORDS = f"{100 * SIMILAR:.0f} % of their {SHINGLE}-character shingles are the same"


def check_leakage(seen: DataView) -> list[Finding]:
    """No source stands in two parts of the split: what is learnt by heart would pass for knowledge."""
    findings = []
    parts = list(seen.parts.items())
    for place, (held_out, rows) in enumerate(parts[1:], start=1):
        earlier = [example for _, others in parts[:place] for example in others]
        pairs = _repeats(earlier, rows, _source_key)
        if pairs:
            later = [example for example, _ in pairs]
            message = (
                f"{share(len(pairs), len(rows))} {held_out} rows have a source that another part has too "
                f"({_pairs(pairs)}): figures on them measure memory as well"
            )
            fix = f"Take these rows out of data.{held_out}, or out of the other part."
            findings.append(Finding("error", "leakage", places(later), message, fix))
    alone = "no source stands in two parts of the split" if len(parts) > 1 else "there is one part only"
    return findings or [Finding("ok", "leakage", "data", alone)]


def check_duplicates(seen: DataView) -> list[Finding]:
    """Rows that are the same word for word, and sources with several responses."""
    rows = seen.rows
    copies = _repeats([], rows, _row_key)
    findings = []
    if copies:
        message = (
            f"{share(len(copies), len(rows))} rows repeat an earlier one word for word ({_pairs(copies)})"
        )
        fix = "Take them out, unless they are to count more than others."
        findings.append(Finding("warning", "duplicates", places(later for later, _ in copies), message, fix))
    copied = {id(later) for later, _ in copies}
    again = [pair for pair in _repeats([], rows, _source_key) if id(pair[0]) not in copied]
    if again:
        what = "rows answer an earlier row's source differently"
        message = f"{share(len(again), len(rows))} {what} ({_pairs(again)})"
        findings.append(Finding("note", "duplicates", places(later for later, _ in again), message))
    findings += _same_responses(seen)
    return findings or [Finding("ok", "duplicates", "data", "no row repeats another")]


def _same_responses(seen: DataView) -> list[Finding]:
    """Held-out rows whose long response is a training row's: it may be told by heart."""
    findings = []
    long = [example for example in seen.split.train if len(example.response) >= SHORTEST]
    for part in HELD_OUT:
        held_out = [example for example in getattr(seen.split, part) if len(example.response) >= SHORTEST]
        pairs = _repeats(long, held_out, lambda example: example.response) if long else []
        if pairs:
            what = f"the responses of {share(len(pairs), len(held_out))} {part} rows are a training row's"
            message = f"{what} ({_pairs(pairs)})"
            fix = f"Figures on data.{part} may measure memory; look whether these rows are meant."
            where = places(later for later, _ in pairs)
            findings.append(Finding("note", "duplicates", where, message, fix))
    return findings


def check_near_duplicates(seen: DataView) -> list[Finding]:
    """Rows that differ in a word or in punctuation only, among those to train on and across the split."""
    return [*_near_in_train(seen), *_near_across(seen)] or [
        Finding("ok", "near-duplicates", "data", f"no two rows are so near that {SIMILAR_WORDS}")
    ]


def _near_in_train(seen: DataView) -> list[Finding]:
    looked_at = sample(seen.split.train)
    rows = _distinct(looked_at, _row_key)
    sources = _without_shared_text(rows)
    near = _near(
        rows,
        [f"{source}\n{strip_marks(example.response)}" for source, example in zip(sources, rows, strict=True)],
    )
    if not near:
        return []
    message = (
        f"{share(len(near), len(rows))} training rows nearly repeat an earlier one, source and response "
        f"together ({SIMILAR_WORDS}; {_pairs(near)}){of_sample(len(looked_at), len(seen.split.train))}"
    )
    fix = "Take them out, unless they are meant."
    return [Finding("warning", "near-duplicates", places(later for later, _ in near), message, fix)]


def _near_across(seen: DataView) -> list[Finding]:
    looked_at = sample(seen.split.train)
    train = _distinct(looked_at, _source_key)
    known = {_source_key(example) for example in train}
    findings = []
    for part in HELD_OUT:
        held_out = [
            example
            for example in sample(getattr(seen.split, part))
            if _source_key(example) not in known  # that is leakage
        ]
        rows = [*train, *held_out]
        near = _near(rows, _without_shared_text(rows), first_later=len(train))
        if near:
            message = (
                f"the sources of {share(len(near), len(held_out))} {part} rows nearly repeat one that is "
                f"trained on ({SIMILAR_WORDS}; {_pairs(near)}): figures on them flatter"
                f"{of_sample(len(looked_at), len(seen.split.train))}"
            )
            fix = f"Take them out of data.{part}, or out of training."
            where = places(later for later, _ in near)
            findings.append(Finding("warning", "near-duplicates", where, message, fix))
    return findings


def _without_shared_text(rows: Sequence[Example]) -> list[str]:
    """Each source without the pieces that many rows have, in the form in which copies are compared.

    A long system text or instruction that all rows share would make every two of them nearly alike. In its
    place is a short hash, so that one question to two tasks is not the same. A source of which nothing else
    is left is compared as a whole.
    """
    pieces = [[piece.text for piece in pieces_of(example.source, example.parts)] for example in rows]
    num_rows = Counter(text for own in pieces for text in set(own))
    texts = []
    for own, example in zip(pieces, rows, strict=True):
        shared = [text for text in own if num_rows[text] >= SHARED_BY]
        telling = "\n".join(strip_marks(text) for text in own if num_rows[text] < SHARED_BY)
        if shared and telling.strip():
            digest = hashlib.blake2b("\n".join(shared).encode(errors="surrogatepass"), digest_size=4)
            texts.append(f"{telling}\n{digest.hexdigest()}")
        else:
            texts.append(strip_marks(example.source))
    return texts


def _near(
    rows: Sequence[Example], texts: Sequence[str], first_later: int = 0
) -> list[tuple[Example, Example]]:
    """Rows from `first_later` on that nearly repeat an earlier one; below it where it is not 0.

    With their history, the later turns of one conversation are nearly alike by nature: they do not count.
    """
    owners = [(example.path, example.row) for example in rows]
    found: dict[int, int] = {}
    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        earlier = seen.setdefault(text, place)
        if owners[earlier] != owners[place]:
            found[place] = earlier
    found = {**near_copies(texts, owners=owners), **found}
    return [
        (rows[later], rows[earlier])
        for later, earlier in sorted(found.items())
        if later >= first_later and (not first_later or earlier < first_later)
    ]


def _repeats(
    earlier: Sequence[Example], rows: Sequence[Example], key: Callable[[Example], Hashable]
) -> list[tuple[Example, Example]]:
    """Rows whose key an earlier row has, each with that row; among themselves where there is no earlier."""
    first: dict[Hashable, Example] = {}
    for example in earlier:
        first.setdefault(key(example), example)
    pairs = []
    for example in rows:
        own = key(example)
        if own in first:
            pairs.append((example, first[own]))
        elif not earlier:
            first[own] = example
    return pairs


def _distinct(rows: Sequence[Example], key: Callable[[Example], Hashable]) -> list[Example]:
    return list({key(example): example for example in reversed(rows)}.values())[::-1]


def _source_key(example: Example) -> bytes:
    return source_key(example.source)


def _row_key(example: Example) -> tuple[bytes, str]:
    return source_key(example.source), example.response


def _pairs(pairs: Sequence[tuple[Example, Example]]) -> str:
    """Which row is like which, for the first few: `rows 21 = 3, 22 = 3 and 4 more`."""
    alike = [f"{_number(later)} = {_seen_from(later, earlier)}" for later, earlier in pairs]
    return f"rows {first_few(alike)}"


def _number(example: Example) -> str:
    """Which row of its file it is, and which answer of its conversation."""
    return f"{example.row} (answer {example.turn})" if example.turn else str(example.row)


def _seen_from(row: Example, other: Example) -> str:
    return _number(other) if other.path == row.path else f"{_number(other)} of {other.path}"

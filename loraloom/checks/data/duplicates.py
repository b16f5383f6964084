"""Rows that repeat one another, within the training part and across the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence

from loraloom.checks.data.code_points import strip_marks
from loraloom.checks.data.data_view import DataView, first_few, of_sample, places, sample, share
from loraloom.checks.data.near_duplicates import SHINGLE, SHORTEST, SIMILAR, near_copies
from loraloom.checks.data.stored_repeats import (
    Repeats,
    stored_copies,
    stored_parts,
    stored_responses,
    stored_sources,
)
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.data.sources.source import pieces_of
from loraloom.data.splitting.groups import source_key
from loraloom.data.splitting.split import HELD_OUT, Part
from loraloom.text.message import Message

SHARED_BY = 5  # rows; text that this many of them share distinguishes none of them
SIMILAR_WORDS = Message(
    "at least {similar:.0f} % of their {shingle}-character shingles are equal",
    similar=100 * SIMILAR,
    shingle=SHINGLE,
)


def check_leakage(view: DataView) -> list[Finding]:
    """Check that no source is in two parts of the split, so that memorized text cannot pass for knowledge."""
    findings = []
    parts = list((view.parts if view.whole is None else stored_parts(view.whole)).items())
    for place, (held_out, rows) in enumerate(parts[1:], start=1):
        others = [own for _, own in parts[:place]]
        found = _repeats_across(others, rows, _source_key, stored_sources)
        if found.num:
            message = Message(
                "{share} {held_out} rows have a source that is also in another part ({pairs}), "
                "so figures on them also measure memorization",
                share=share(found.num, len(rows)),
                held_out=held_out,
                pairs=_pairs(found),
            )
            fix = Message("Remove these rows from data.{held_out} or from the other part.", held_out=held_out)
            findings.append(Finding("error", "leakage", places(found.later), message, fix))
    alone = (
        Message("no source is in two parts of the split")
        if len(parts) > 1
        else Message("the split has only one part")
    )
    return findings or [Finding("ok", "leakage", "data", alone)]


def check_duplicates(view: DataView) -> list[Finding]:
    """Find identical rows, sources with several responses, and long responses repeated across parts."""
    settings = view.settings  # if the recipe has none, the base may receive none
    has_languages = bool(settings.target_lang or settings.target_lang_column or settings.language_codes)
    if view.whole is not None:
        num_rows = sum(map(len, stored_parts(view.whole).values()))
        copies, again = stored_copies(view.whole, by_language=has_languages)
    else:
        rows = view.rows
        num_rows, copies = len(rows), _repeats([], rows, _row_key)
        copied = {id(later) for later in copies.later}
        pairs = _repeats([], rows, _question_key if has_languages else _source_key).pairs
        again = Repeats.of([pair for pair in pairs if id(pair[0]) not in copied])
    findings = []
    if copies.num:
        message = Message(
            "{share} rows are identical to an earlier one ({pairs})",
            share=share(copies.num, num_rows),
            pairs=_pairs(copies),
        )
        fix = Message("Remove them, unless they should count more than others.")
        findings.append(Finding("warning", "duplicates", places(copies.later), message, fix))
    if again.num:
        what = Message("rows have the same source as an earlier row but a different response")
        message = Message(
            "{share} {what} ({pairs})", share=share(again.num, num_rows), what=what, pairs=_pairs(again)
        )
        findings.append(Finding("note", "duplicates", places(again.later), message))
    findings += _same_responses(view)
    return findings or [Finding("ok", "duplicates", "data", Message("no two rows are identical"))]


def _same_responses(view: DataView) -> list[Finding]:
    """Find held-out rows with the same long response as a training row, which may be recited from memory."""
    findings = []
    parts: Mapping[Part, Sequence[Example]] = view.parts
    long: Sequence[Example] = [] if view.whole else [row for row in parts["train"] if _is_long(row)]
    for part in HELD_OUT:
        if view.whole is not None:
            found, num_rows = stored_responses(view.whole, part, SHORTEST)
        else:
            held_out = [example for example in parts.get(part, ()) if _is_long(example)]
            found = _repeats(long, held_out, lambda example: example.response) if long else Repeats.of([])
            num_rows = len(held_out)
        if found.num:
            what = Message(
                "{share} {part} rows have the same response as a training row",
                share=share(found.num, num_rows),
                part=part,
            )
            message = Message("{what} ({pairs})", what=what, pairs=_pairs(found))
            fix = Message(
                "Figures on data.{part} may measure memorization; check whether these rows are intentional.",
                part=part,
            )
            findings.append(Finding("note", "duplicates", places(found.later), message, fix))
    return findings


def _is_long(example: Example) -> bool:
    return len(example.response) >= SHORTEST


def check_near_duplicates(view: DataView) -> list[Finding]:
    """Find rows whose texts are nearly the same, within the training part and across the split."""
    return [*_near_in_train(view), *_near_across(view)] or [
        Finding(
            "ok",
            "near-duplicates",
            "data",
            Message("there are no two rows for which {similar_words}", similar_words=SIMILAR_WORDS),
        )
    ]


def _near_in_train(view: DataView) -> list[Finding]:
    looked_at = sample(view.split.train)
    rows = _distinct(looked_at, _row_key)
    sources = _without_shared_text(rows)
    near = _near(
        rows,
        [f"{source}\n{strip_marks(example.response)}" for source, example in zip(sources, rows, strict=True)],
    )
    if not near:
        return []
    message = Message(
        "{share} training rows nearly repeat an earlier one, comparing source and response "
        "together ({similar_words}; {pairs}){of_sample}",
        share=share(len(near), len(rows)),
        similar_words=SIMILAR_WORDS,
        pairs=_pairs(Repeats.of(near)),
        of_sample=of_sample(len(looked_at), view.num_rows("train")),
    )
    fix = Message("Remove them, unless they are intentional.")
    return [Finding("warning", "near-duplicates", places(later for later, _ in near), message, fix)]


def _near_across(view: DataView) -> list[Finding]:
    looked_at = sample(view.split.train)
    train = _distinct(looked_at, _source_key)
    known = {_source_key(example) for example in train}
    findings = []
    for part in HELD_OUT:
        held_out = [
            example
            for example in sample(getattr(view.split, part))
            if _source_key(example) not in known  # reported as leakage
        ]
        rows = [*train, *held_out]
        near = _near(rows, _without_shared_text(rows), first_later=len(train))
        if near:
            message = Message(
                "the sources of {share} {part} rows nearly repeat one in the training part "
                "({similar_words}; {pairs}), so figures on them are optimistic{of_sample}",
                share=share(len(near), len(held_out)),
                part=part,
                similar_words=SIMILAR_WORDS,
                pairs=_pairs(Repeats.of(near)),
                of_sample=of_sample(len(looked_at), view.num_rows("train")),
            )
            fix = Message("Remove them from data.{part} or from the training rows.", part=part)
            where = places(later for later, _ in near)
            findings.append(Finding("warning", "near-duplicates", where, message, fix))
    return findings


def _without_shared_text(rows: Sequence[Example]) -> list[str]:
    """Return each source without the pieces that many rows share, normalized for comparison.

    A long system text or instruction that all rows share would make any two of them nearly alike. A short
    hash replaces the shared pieces, so that the same question under different instructions still differs. A
    source that consists only of shared pieces is returned whole.
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
    """Find rows that nearly repeat an earlier one.

    If `first_later` is not 0, return only pairs of a row from this index on and a row before it. Turns of the
    same conversation are not paired, because their shared history makes them similar.
    """
    owners = [(example.path, example.row) for example in rows]
    found: dict[int, int] = {}
    first: dict[str, int] = {}
    for place, text in enumerate(texts):
        if not first_later or place < first_later:
            first.setdefault(text, place)
        earlier = first.get(text, place)
        if place >= first_later and owners[earlier] != owners[place]:
            found[place] = earlier
    found = {**near_copies(texts, owners=owners, first_later=first_later), **found}
    return [(rows[later], rows[earlier]) for later, earlier in sorted(found.items())]


def _repeats_across(
    earlier: Sequence[Sequence[Example]],
    rows: Sequence[Example],
    key: Callable[[Example], Hashable],
    of_stored: Callable[[Sequence[Sequence[Example]], Sequence[Example]], Repeats | None],
) -> Repeats:
    """Pair rows with the first row of other parts that has the same key, in memory or in files."""
    found = of_stored(earlier, rows)
    return _repeats([row for own in earlier for row in own], rows, key) if found is None else found


def _repeats(
    earlier: Sequence[Example], rows: Sequence[Example], key: Callable[[Example], Hashable]
) -> Repeats:
    """Pair rows with the first row of `earlier` that has the same key, or of `rows` if `earlier` is empty."""
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
    return Repeats.of(pairs)


def _distinct(rows: Sequence[Example], key: Callable[[Example], Hashable]) -> list[Example]:
    return list({key(example): example for example in reversed(rows)}.values())[::-1]


def _source_key(example: Example) -> bytes:
    return source_key(example.source)


def _question_key(example: Example) -> tuple[bytes, str]:
    """Return the source's key and the target language; translations into two languages do not conflict."""
    return source_key(example.source), example.target_lang


def _row_key(example: Example) -> tuple[bytes, str]:
    return source_key(example.source), example.response


def _pairs(found: Repeats) -> str:
    """Format the first few pairs of similar rows: `rows 21 = 3, 22 = 3 and 4 more`."""
    alike = [f"{_number(later)} = {_seen_from(later, earlier)}" for later, earlier in found.pairs]
    return Message("rows {first_few}", first_few=first_few(alike, found.num))


def _number(example: Example) -> str:
    """Format a row's number in its file, and its answer's number in the conversation: `21 (answer 2)`."""
    return f"{example.row} (answer {example.turn})" if example.turn else str(example.row)


def _seen_from(row: Example, other: Example) -> str:
    return _number(other) if other.path == row.path else f"{_number(other)} of {other.path}"

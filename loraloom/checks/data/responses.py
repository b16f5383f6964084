"""Responses that teach little: all alike, copied from the source, or truncated."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from loraloom.checks.data.code_points import normalize, strip_marks
from loraloom.checks.data.data_view import DataView, of_sample, places, sample, share
from loraloom.checks.data.placeholders import placeholder
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message

FEWEST_ROWS = 20  # a share of fewer rows is meaningless
DOMINANT = 0.5
STOCK = 0.2  # share of the rows; an adapter learns a stock answer this frequent first
SHORT_RESPONSE = 60  # characters
BEGINNING = 12  # characters
LONG_RESPONSE = 40  # characters; a shorter one may be a title or a label
# Below the first share they may be the writer's style; above the second, texts here do not end in full stops.
CUT_SHARES = (0.02, 0.5)

_ENDS = re.compile(r"""[.!?。！？…～~;；:：)）\]】」』》>"'”’`|\d\-–—=*_}$%℃]\s*$""")
_PICTURE = 0x2190  # arrows, symbols and emoji begin here, except for the letters of the CJK blocks


def check_alike(view: DataView) -> list[Finding]:
    """Check that most training rows do not have the same response, beginning of the response, or source."""
    rows = sample(view.split.train)
    if len(rows) < FEWEST_ROWS:
        return [
            Finding(
                "ok",
                "alike",
                "data.train",
                Message("{num_rows} rows are too few to judge", num_rows=len(rows)),
            )
        ]
    responses = [strip_marks(example.response) for example in rows]
    findings = [
        *_one_response(rows, responses),
        *_one_source(rows, [strip_marks(example.source) for example in rows]),
    ] or [*_one_short_answer(rows), *_one_beginning(rows, responses)]
    looked_at = of_sample(len(rows), view.num_rows("train"))
    return [
        replace(
            finding, message=Message("{message}{looked_at}", message=finding.message, looked_at=looked_at)
        )
        for finding in findings
    ] or [Finding("ok", "alike", "data.train", Message("no single response, beginning or source dominates"))]


def _one_response(rows: Sequence[Example], responses: Sequence[str]) -> list[Finding]:
    count, same = _most_common(rows, responses)
    if count < DOMINANT * len(rows):
        return []
    if count == len(rows):
        message = Message(
            "all {count:,} training rows have the same response; nothing else can be learnt from them",
            count=count,
        )
        fix = Message("Check that data.columns names the right column.")
        return [Finding("error", "alike", places(same), message, fix)]
    message = Message(
        "{share} training rows have the same response, which the model will then give to every source",
        share=share(count, len(rows)),
    )
    return [Finding("warning", "alike", places(same), message, Message("Remove most of them."))]


def _one_short_answer(rows: Sequence[Example]) -> list[Finding]:
    """Find a frequent short response among free-text responses; frequent labels are not reported."""
    (text, count), *others = Counter(example.response for example in rows).most_common()
    rest = len(rows) - count
    if len(text) > SHORT_RESPONSE or count < STOCK * len(rows) or len(others) < DOMINANT * rest:
        return []
    if placeholder(text):  # reported by the check `placeholders`
        return []
    same = [example for example in rows if example.response == text]
    message = Message(
        "{share} training rows have the same short response, while the others have texts of "
        "their own; the model will give it to many questions",
        share=share(count, len(rows)),
    )
    fix = Message("Check whether it stands for a missing answer; if so, remove most of these rows.")
    return [Finding("warning", "alike", places(same), message, fix)]


def _one_source(rows: Sequence[Example], sources: Sequence[str]) -> list[Finding]:
    count, same = _most_common(rows, sources)
    if count < DOMINANT * len(rows):
        return []
    message = Message("{share} training rows have the same source", share=share(count, len(rows)))
    fix = Message("Check that data.columns and data.source_prefix name the right columns.")
    return [Finding("warning", "alike", places(same), message, fix)]


def _one_beginning(rows: Sequence[Example], responses: Sequence[str]) -> list[Finding]:
    long = [
        (example, text[:BEGINNING])
        for example, text in zip(rows, responses, strict=True)
        if len(text) > BEGINNING
    ]
    if len(long) < FEWEST_ROWS:
        return []
    count, same = _most_common(*zip(*long, strict=True))
    if count < DOMINANT * len(long):
        return []
    message = Message(
        "{share} responses begin with the same {beginning} characters; every answer will begin with them",
        share=share(count, len(long)),
        beginning=BEGINNING,
    )
    return [
        Finding(
            "warning", "alike", places(same), message, Message("Remove a fixed beginning from the responses.")
        )
    ]


def _most_common(rows: Sequence[Example], texts: Sequence[str]) -> tuple[int, list[Example]]:
    (text, count), *_ = Counter(texts).most_common(1)
    return count, [example for example, own in zip(rows, texts, strict=True) if own == text]


def check_copied(view: DataView) -> list[Finding]:
    """Find responses that only repeat their source."""
    rows = sample(view.split.train)
    copied = [
        example for example in rows if strip_marks(example.source) == strip_marks(example.response) != ""
    ]
    if not copied:
        return [Finding("ok", "copied", "data.train", Message("no response is a copy of its source"))]
    message = Message(
        "the responses of {share} training rows only repeat their source{of_sample}",
        share=share(len(copied), len(rows)),
        of_sample=of_sample(len(rows), view.num_rows("train")),
    )
    return [Finding("warning", "copied", places(copied), message, Message("Remove these rows."))]


def check_cut_off(view: DataView) -> list[Finding]:
    """Find long responses that end in the middle of a sentence, as if an export had limited their length."""
    rows = sample(view.split.train)
    long = [example for example in rows if len(example.response) >= LONG_RESPONSE]
    open_ended = [example for example in long if _is_open_ended(example.response)]
    few, most = CUT_SHARES
    if len(long) < FEWEST_ROWS or not few <= len(open_ended) / len(long) <= most:
        return [Finding("ok", "cut-off", "data.train", Message("responses end at the end of a sentence"))]
    what = Message(
        "{share} long responses do not end at the end of a sentence", share=share(len(open_ended), len(long))
    )
    message = Message("{what}{of_sample}", what=what, of_sample=of_sample(len(rows), view.num_rows("train")))
    fix = Message("Check whether they were truncated when the file was created.")
    return [Finding("note", "cut-off", places(open_ended), message, fix)]


def _is_open_ended(response: str) -> bool:
    text = normalize(response).rstrip()
    last = ord(text[-1]) if text else 0
    is_picture = _PICTURE <= last < 0x3000 or last >= 0x1F000
    # The last line of a list, a verse or code does not end in a full stop either.
    is_line_of_many = "\n" in text and len(text) - text.rfind("\n") <= LONG_RESPONSE
    return not (_ENDS.search(text) or is_picture or is_line_of_many)

"""The check that texts survive tokenizing and decoding, and the kinds of characters that do not."""

from __future__ import annotations

import unicodedata
from collections import Counter

from loraloom.checks.data.code_points import normalize
from loraloom.checks.data.data_view import DataView, Side, places, share, shown_sides
from loraloom.checks.data.same_sources import control_tokens
from loraloom.checks.data.tokenization import SIDES, of_encoded_sample
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message


def check_round_trip(view: DataView) -> list[Finding]:
    """Check that texts survive tokenizing and decoding; the model cannot answer with a text that does not."""
    findings = [
        finding for side in SIDES for finding in (*_round_trip(view, side), *_leading_spaces(view, side))
    ]
    return findings or [
        Finding("ok", "round-trip", "data", Message("every text is unchanged by tokenizing and decoding"))
    ]


def _round_trip(view: DataView, side: Side) -> list[Finding]:
    assert view.tokenizer is not None
    encoded = view.encoded("train", side)
    lost: dict[str, list[Example]] = {}
    for example, back in zip(encoded.rows, view.tokenizer.texts(encoded.ids), strict=True):
        text: str = getattr(example, side)
        if back != text and not control_tokens(view.tokenizer, text):
            for kind in differences(text, back):
                lost.setdefault(kind, []).append(example)
    findings = []
    for kind, rows in lost.items():
        is_form = kind in FORMS
        subject = Message(
            "{share} training {sides}", share=share(len(rows), len(encoded.rows)), sides=shown_sides(side)
        )
        message = Message(
            "{kind} in {subject} are lost by tokenizing and decoding{of_sample}",
            kind=kind,
            subject=subject,
            of_sample=of_encoded_sample(view, side),
        )
        fix = FORMS.get(
            kind, Message("The base can neither read nor write them; replace them, or use another base.")
        )
        findings.append(Finding("note" if is_form else "warning", "round-trip", places(rows), message, fix))
    return findings


def _leading_spaces(view: DataView, side: Side) -> list[Finding]:
    """Report white space before texts, if the tokenizer keeps it: BART then reads a different first word."""
    assert view.tokenizer is not None
    with_space, without = view.tokenizer.ids([" a", "a"])
    encoded = view.encoded("train", side)
    rows = [example for example in encoded.rows if getattr(example, side)[:1].isspace()]
    if with_space == without or not rows:
        return []
    subject = Message(
        "{share} training {sides}", share=share(len(rows), len(encoded.rows)), sides=shown_sides(side)
    )
    message = Message(
        "{subject} begin with white space{of_encoded_sample}, which this tokenizer keeps, so their first "
        "word gets different tokens than it would without the white space",
        subject=subject,
        of_encoded_sample=of_encoded_sample(view, side),
    )
    fix = Message("Remove it, unless it is intentional and new prompts will have it too.")
    return [Finding("note", "round-trip", places(rows), message, fix)]


# Changes of form only, and what the user should know about them.
FORMS = {
    "line breaks": Message(
        "Answers will contain no line breaks; write lists and paragraphs as sentences, or use another base."
    ),
    "spaces": Message("Repeated spaces become one, and those at either end are removed."),
    "full-width forms": Message("The tokenizer writes ，？！ as ,?! ; metrics treat them as equal."),
}


def differences(text: str, back: str) -> list[str]:
    """List the kinds of characters that tokenizing and decoding removed, never the characters themselves."""
    kinds: list[str] = []
    if text.count("\n") != back.count("\n"):
        kinds.append(Message("line breaks"))
    flat, flat_back = (" ".join(side.split()) for side in (text, back))
    if flat != flat_back:
        if flat_back == normalize(flat) or _level(flat_back) == _level(flat):
            kinds.append(
                Message("full-width forms") if _unspaced(flat) != _unspaced(flat_back) else Message("spaces")
            )
        else:
            kinds += _lost_kinds(_level(flat), _level(flat_back))
    elif not kinds:
        kinds.append("spaces")
    return kinds


def _level(text: str) -> str:
    return _unspaced(normalize(text))


def _unspaced(text: str) -> str:
    return "".join(text.split())


def _lost_kinds(text: str, back: str) -> list[str]:
    lost = Counter(text)
    lost.subtract(Counter(back))
    kinds = dict.fromkeys(_kind(char) for char, count in lost.items() if count > 0)
    return list(kinds) or ["characters"]


def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if "CJK" in unicodedata.name(char, ""):
        return Message("Han characters")
    if category.startswith("L"):
        return "letters"
    if category.startswith("M"):
        return Message("marks above or below letters")
    if category in ("So", "Sk"):
        return Message("emoji and symbols")
    if category.startswith("N"):
        return "digits"
    return Message("symbols and punctuation")

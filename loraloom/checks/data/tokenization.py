"""Effects of the base's tokenizer: lengths, truncation, unknown characters, round trip."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from typing import Literal

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.code_points import normalize
from loraloom.checks.data.data_view import DataView, EncodedText, of_sample, places, share
from loraloom.checks.data.same_sources import control_tokens
from loraloom.checks.finding import Finding, Level
from loraloom.data.examples import Example
from loraloom.data.sources.truncation import describe_truncation
from loraloom.recipe.settings import MAX_TOKENS
from loraloom.text.units import percent

PERCENTILES = (50, 90, 95, 99)
TO_CUT = 0.01  # share of rows that a suggested limit would truncate
# Shares of all tokens of a side.
UNKNOWN_WARNING, UNKNOWN_ERROR = 0.001, 0.2
BYTES_WARNING = 0.1

Side = Literal["source", "response"]
SIDES: dict[Side, str] = {"source": "data.max_source_length", "response": "data.max_target_length"}


def check_lengths(view: DataView) -> list[Finding]:
    """Report percentiles of the rows' lengths in tokens, including EOS."""
    findings = []
    for side, setting in SIDES.items():
        lengths = _lengths(view.encoded("train", side))
        first, *others = PERCENTILES
        at = [f"{first} % have at most {_within(lengths, first / 100)}"]
        at += [f"{p} % {_within(lengths, p / 100)}" for p in others]
        at.append(f"the longest {lengths.max()}")
        message = f"tokens of training {side}s: {', '.join(at)}{_of_sample(view, side)}"
        if view.tokenizer is not None and view.tokenizer.reads_bytes:
            message += "; a token is a byte, of which a Chinese character takes three"
        findings.append(Finding("ok", "lengths", setting, message))
    return findings


def check_truncation(view: DataView) -> list[Finding]:
    """Report how many rows the limits truncate, and the limits that would truncate 1 % or none."""
    findings = []
    for side, setting in SIDES.items():
        limit = int(getattr(view.settings, setting.removeprefix("data.")))
        encoded = view.encoded("train", side)
        lengths = _lengths(encoded)
        is_cut = lengths > limit
        tight, whole = _within(lengths, 1 - TO_CUT), int(lengths.max())
        if is_cut.any():
            cut = [example for example, own in zip(encoded.rows, is_cut.tolist(), strict=True) if own]
            what = f"{share(len(cut), len(lengths))} training {side}s are cut at {limit} tokens; EOS is kept"
            kinds = (
                f"; what is cut: {describe_truncation(view.fitted('train').cuts)}" if side == "source" else ""
            )
            message = f"{what}{_of_sample(view, side)}{kinds}; {tight} would cut 1 %, {whole} none"
            wanted = tight if tight > limit else whole
            fix = (
                f"Set {setting}: {wanted}."
                if wanted <= MAX_TOKENS
                else "Shorten these texts, or remove them."
            )
            findings.append(Finding("warning", "truncation", setting, f"{message} ({places(cut)})", fix))
        else:
            message = (
                f"no training {side} is cut at {limit} tokens{_of_sample(view, side)}; {tight} would cut 1 %"
            )
            findings.append(Finding("ok", "truncation", setting, message))
    return findings


def check_answer_length(view: DataView) -> list[Finding]:
    """Check that answers may be as long as the training responses."""
    if view.max_new_tokens is None:
        return [Finding("ok", "answer-length", "generation", "no answers will be generated")]
    limit, key = view.max_new_tokens, "generation.max_new_tokens"
    encoded = view.encoded("train", "response")
    learnt = np.minimum(_lengths(encoded), view.settings.max_target_length)
    is_longer = learnt > limit
    looked_at = _of_sample(view, "response")
    if not is_longer.any():
        message = f"no training response exceeds the {limit} tokens that an answer may have"
        return [Finding("ok", "answer-length", key, f"{message}{looked_at}")]
    rows = [example for example, own in zip(encoded.rows, is_longer.tolist(), strict=True) if own]
    message = (
        f"{share(len(rows), len(learnt))} training responses exceed the {limit} tokens that an "
        f"answer may have{looked_at}, so such answers will be truncated ({places(rows)})"
    )
    fix = f"Set {key}: {view.settings.max_target_length}, which is data.max_target_length, or remove it."
    return [Finding("warning", "answer-length", key, message, fix)]


def check_unknown_tokens(view: DataView) -> list[Finding]:
    """Find characters that are not in the vocabulary, which become an unknown token or bytes."""
    return [_unknown(view, side) or _bytes(view, side) for side in SIDES]


def _unknown(view: DataView, side: Side) -> Finding | None:
    """Report how much of a side the tokenizer does not know; None if nothing."""
    assert view.tokenizer is not None
    unknown = view.tokenizer.unk_token_id
    encoded = view.encoded("train", side)
    # If the unknown token is spelled out, it is not an unknown character: see control-tokens.
    literal = view.tokenizer.unk_token or "\0"
    counts = [
        ids.count(unknown) - getattr(example, side).count(literal) if unknown in ids else 0
        for example, ids in zip(encoded.rows, encoded.ids, strict=True)
    ]
    rows = [example for example, count in zip(encoded.rows, counts, strict=True) if count > 0]
    if unknown is None or not rows:
        return None
    part = sum(count for count in counts if count > 0) / sum(map(len, encoded.ids))
    level: Level = "error" if part >= UNKNOWN_ERROR else "warning" if part >= UNKNOWN_WARNING else "note"
    message = (
        f"{percent(part)} of the tokens of training {side}s are unknown to the tokenizer, "
        f"in {share(len(rows), len(encoded.ids))} rows{_of_sample(view, side)}"
    )
    fix = "Replace the unknown characters, or use a base whose tokenizer knows this text."
    return Finding(level, "unknown-tokens", places(rows), message, fix)


def _bytes(view: DataView, side: Side) -> Finding:
    """Report how much of a side is encoded as bytes: three tokens per Chinese character, four per emoji."""
    assert view.tokenizer is not None
    encoded = view.encoded("train", side)
    bytes_ = view.tokenizer.byte_token_ids
    counts = [sum(token in bytes_ for token in ids) for ids in encoded.ids]
    part = sum(counts) / sum(map(len, encoded.ids))
    spelt = f"{percent(part)} of the tokens of training {side}s are single bytes"
    if part < BYTES_WARNING:
        message = f"no token is unknown{f'; {spelt}' if part else ''}{_of_sample(view, side)}"
        return Finding("ok", "unknown-tokens", f"training {side}s", message)
    by_count = sorted(zip(counts, encoded.rows, strict=True), key=lambda pair: -pair[0])
    rows = [example for count, example in by_count if count]  # worst first
    message = f"{spelt}, because the vocabulary lacks characters of {share(len(rows), len(encoded.ids))} rows"
    fix = "Use a base whose tokenizer knows this text; this one reads and writes it byte by byte."
    return Finding("warning", "unknown-tokens", places(rows), f"{message}{_of_sample(view, side)}", fix)


def check_round_trip(view: DataView) -> list[Finding]:
    """Check that texts survive tokenization; text that does not can never be answered."""
    findings = [
        finding for side in SIDES for finding in (*_round_trip(view, side), *_leading_spaces(view, side))
    ]
    return findings or [
        Finding("ok", "round-trip", "data", "every text is unchanged by tokenizing and decoding")
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
        subject = f"{share(len(rows), len(encoded.rows))} training {side}s"
        message = f"{kind} of {subject} are lost by tokenizing and decoding{_of_sample(view, side)}"
        fix = FORMS.get(kind, "The base can neither read nor write them; replace them, or use another base.")
        findings.append(Finding("note" if is_form else "warning", "round-trip", places(rows), message, fix))
    return findings


def _leading_spaces(view: DataView, side: Side) -> list[Finding]:
    """Report white space before texts, if the tokenizer keeps it: BART's then reads another first word."""
    assert view.tokenizer is not None
    with_space, without = view.tokenizer.ids([" a", "a"])
    encoded = view.encoded("train", side)
    rows = [example for example in encoded.rows if getattr(example, side)[:1].isspace()]
    if with_space == without or not rows:
        return []
    subject = f"{share(len(rows), len(encoded.rows))} training {side}s"
    message = (
        f"{subject} begin with white space{_of_sample(view, side)}, which this tokenizer keeps: their first "
        "word has other tokens than without it"
    )
    fix = "Remove it, unless it is intentional and new prompts will have it too."
    return [Finding("note", "round-trip", places(rows), message, fix)]


# Changes of form only, and what the user should know about them.
FORMS = {
    "line breaks": "Answers will have none; write lists and paragraphs as sentences, or use another base.",
    "spaces": "Repeated spaces become one, and those at either end are removed.",
    "full-width forms": "The tokenizer writes ，？！ as ,?! ; metrics compare them as equal.",
}


def differences(text: str, back: str) -> list[str]:
    """List the kinds of characters, never which ones, that a text lost by tokenizing and decoding."""
    kinds = []
    if text.count("\n") != back.count("\n"):
        kinds.append("line breaks")
    flat, flat_back = (" ".join(side.split()) for side in (text, back))
    if flat != flat_back:
        if flat_back == normalize(flat) or _level(flat_back) == _level(flat):
            kinds.append("full-width forms" if _unspaced(flat) != _unspaced(flat_back) else "spaces")
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
        return "Han characters"
    if category.startswith("L"):
        return "letters"
    if category.startswith("M"):
        return "marks above or below letters"
    if category in ("So", "Sk"):
        return "emoji and symbols"
    if category.startswith("N"):
        return "digits"
    return "symbols and punctuation"


def _lengths(encoded: EncodedText) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, encoded.ids), dtype=np.int64, count=len(encoded.ids))


def _within(lengths: npt.NDArray[np.int64], part: float) -> int:
    """Return the smallest limit that leaves this share of the rows whole."""
    return int(np.sort(lengths)[max(0, math.ceil(part * len(lengths)) - 1)])


def _of_sample(view: DataView, side: Side) -> str:
    return of_sample(len(view.encoded("train", side).rows), len(view.split.train))

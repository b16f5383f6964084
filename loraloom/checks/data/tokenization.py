"""Checks with the base's tokenizer: lengths in tokens, truncation, answer length, unknown characters."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.data_view import (
    DataView,
    EncodedText,
    Side,
    of_sample,
    places,
    share,
    shown_side,
    shown_sides,
)
from loraloom.checks.finding import Finding, Level
from loraloom.data.sources.truncation import describe_truncation
from loraloom.recipe.settings import MAX_TOKENS
from loraloom.text.message import Message, joined
from loraloom.text.units import percent

PERCENTILES = (50, 90, 95, 99)
TO_CUT = 0.01  # share of rows that a suggested limit would truncate
# Shares of all tokens of a side.
UNKNOWN_WARNING, UNKNOWN_ERROR = 0.001, 0.2
BYTES_WARNING = 0.1

SIDES: dict[Side, str] = {"source": "data.max_source_length", "response": "data.max_target_length"}


def check_lengths(view: DataView) -> list[Finding]:
    """Report percentiles of the rows' lengths in tokens, including EOS."""
    findings = []
    for side, setting in SIDES.items():
        lengths = _lengths(view.encoded("train", side))
        first, *others = PERCENTILES
        at: list[str] = [
            Message("{first} % have at most {within}", first=first, within=_within(lengths, first / 100))
        ]
        at += [f"{p} % {_within(lengths, p / 100)}" for p in others]
        at.append(Message("the longest {max}", max=lengths.max()))
        message = Message(
            "tokens of training {sides}: {at}{of_sample}",
            sides=shown_sides(side),
            at=joined(", ", at),
            of_sample=of_encoded_sample(view, side),
        )
        if view.tokenizer is not None and view.tokenizer.reads_bytes:
            message = Message(
                "{message}; each token is one byte, and a Chinese character takes three", message=message
            )
        findings.append(Finding("ok", "lengths", setting, message))
    return findings


def check_truncation(view: DataView) -> list[Finding]:
    """Report how many training rows the limits truncate, and which limits would truncate 1 % or none."""
    findings = []
    for side, setting in SIDES.items():
        limit = int(getattr(view.settings, setting.removeprefix("data.")))
        encoded = view.encoded("train", side)
        lengths = _lengths(encoded)
        is_cut = lengths > limit
        tight, whole = _within(lengths, 1 - TO_CUT), int(lengths.max())
        if is_cut.any():
            cut = [example for example, own in zip(encoded.rows, is_cut.tolist(), strict=True) if own]
            what = Message(
                "{share} training {sides} are cut at {limit} tokens; EOS is kept",
                share=share(len(cut), len(lengths)),
                sides=shown_sides(side),
                limit=limit,
            )
            kinds = (
                Message(
                    "; what is cut: {describe_truncation}",
                    describe_truncation=describe_truncation(view.fitted("train").cuts),
                )
                if side == "source"
                else ""
            )
            message: str = Message(
                "{what}{of_sample}{kinds}; a limit of {tight} would cut 1 %, {whole} none",
                what=what,
                of_sample=of_encoded_sample(view, side),
                kinds=kinds,
                tight=tight,
                whole=whole,
            )
            wanted = tight if tight > limit else whole
            fix = (
                Message("Set {setting}: {wanted}.", setting=setting, wanted=wanted)
                if wanted <= MAX_TOKENS
                else Message("Shorten these texts, or remove them.")
            )
            findings.append(
                Finding(
                    "warning",
                    "truncation",
                    setting,
                    Message("{message} ({places})", message=message, places=places(cut)),
                    fix,
                )
            )
        else:
            message = Message(
                "no training {side} is cut at {limit} tokens{of_sample}; a limit of {tight} would cut 1 %",
                side=shown_side(side),
                limit=limit,
                of_sample=of_encoded_sample(view, side),
                tight=tight,
            )
            findings.append(Finding("ok", "truncation", setting, message))
    return findings


def check_answer_length(view: DataView) -> list[Finding]:
    """Check that `max_new_tokens` allows answers as long as the training responses."""
    if view.max_new_tokens is None:
        return [Finding("ok", "answer-length", "generation", Message("no answers will be generated"))]
    limit, key = view.max_new_tokens, "generation.max_new_tokens"
    encoded = view.encoded("train", "response")
    learnt = np.minimum(_lengths(encoded), view.settings.max_target_length)
    is_longer = learnt > limit
    looked_at = of_encoded_sample(view, "response")
    if not is_longer.any():
        message: str = Message(
            "no training response exceeds the {limit} tokens that an answer may have", limit=limit
        )
        return [
            Finding(
                "ok",
                "answer-length",
                key,
                Message("{message}{looked_at}", message=message, looked_at=looked_at),
            )
        ]
    rows = [example for example, own in zip(encoded.rows, is_longer.tolist(), strict=True) if own]
    message = Message(
        "{share} training responses exceed the {limit} tokens that an answer may "
        "have{looked_at}, so such answers will be truncated ({places})",
        share=share(len(rows), len(learnt)),
        limit=limit,
        looked_at=looked_at,
        places=places(rows),
    )
    fix = Message(
        "Set {key}: {max_target_length} (the value of data.max_target_length), or remove {key}.",
        key=key,
        max_target_length=view.settings.max_target_length,
    )
    return [Finding("warning", "answer-length", key, message, fix)]


def check_unknown_tokens(view: DataView) -> list[Finding]:
    """Find characters that are not in the vocabulary and so become an unknown token or bytes."""
    return [_unknown(view, side) or _bytes(view, side) for side in SIDES]


def _unknown(view: DataView, side: Side) -> Finding | None:
    """Report the share of tokens on a side that are unknown to the tokenizer; None if there are none."""
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
    message = Message(
        "{part} of the tokens of training {sides} are unknown to the tokenizer, in {share} rows{of_sample}",
        part=percent(part),
        sides=shown_sides(side),
        share=share(len(rows), len(encoded.ids)),
        of_sample=of_encoded_sample(view, side),
    )
    fix = Message("Replace the unknown characters, or use a base whose tokenizer knows this text.")
    return Finding(level, "unknown-tokens", places(rows), message, fix)


def _bytes(view: DataView, side: Side) -> Finding:
    """Report the share of tokens on a side that are bytes: a Chinese character takes three, an emoji four."""
    assert view.tokenizer is not None
    encoded = view.encoded("train", side)
    bytes_ = view.tokenizer.byte_token_ids
    counts = [sum(token in bytes_ for token in ids) for ids in encoded.ids]
    part = sum(counts) / sum(map(len, encoded.ids))
    spelt = Message(
        "{part} of the tokens of training {sides} are single bytes",
        part=percent(part),
        sides=shown_sides(side),
    )
    if part < BYTES_WARNING:
        message: str = (
            Message(
                "no token is unknown; {spelt}{of_sample}",
                spelt=spelt,
                of_sample=of_encoded_sample(view, side),
            )
            if part
            else Message("no token is unknown{of_sample}", of_sample=of_encoded_sample(view, side))
        )
        return Finding("ok", "unknown-tokens", Message("training {sides}", sides=shown_sides(side)), message)
    by_count = sorted(zip(counts, encoded.rows, strict=True), key=lambda pair: -pair[0])
    rows = [example for count, example in by_count if count]  # worst first
    message = Message(
        "{spelt}, because {share} rows contain characters that the vocabulary lacks",
        spelt=spelt,
        share=share(len(rows), len(encoded.ids)),
    )
    fix = Message("Use a base whose tokenizer knows this text; this one reads and writes it byte by byte.")
    return Finding(
        "warning",
        "unknown-tokens",
        places(rows),
        Message("{message}{of_sample}", message=message, of_sample=of_encoded_sample(view, side)),
        fix,
    )


def _lengths(encoded: EncodedText) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, encoded.ids), dtype=np.int64, count=len(encoded.ids))


def _within(lengths: npt.NDArray[np.int64], part: float) -> int:
    """Return the smallest limit that leaves at least this share of the rows untruncated."""
    return int(np.sort(lengths)[max(0, math.ceil(part * len(lengths)) - 1)])


def of_encoded_sample(view: DataView, side: Side) -> str:
    """Return a phrase for a message, saying that not every row was encoded; "" if all were."""
    return of_sample(len(view.encoded("train", side).rows), view.num_rows("train"))

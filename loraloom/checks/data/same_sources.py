"""Rows that the base cannot tell apart, and text that it reads as control tokens."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from loraloom.checks.data.data_view import DataView, of_sample, places, share, shown_sides
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.finding import Finding, Level
from loraloom.data.example import Example
from loraloom.data.splitting.groups import source_key
from loraloom.text.message import Message

# Share of rows from which on training learns only noise.
SAME_ERROR = 0.05


def check_same_sources(view: DataView) -> list[Finding]:
    """Find different sources that are the same to the base, because of truncation or its tokenizer."""
    texts: dict[bytes, bytes] = {}
    mixed: set[bytes] = set()
    num_rows = num_all = 0
    for part in view.parts:
        fitted = view.fitted(part)
        num_rows, num_all = num_rows + len(fitted.rows), num_all + view.num_rows(part)
        for example, ids in zip(fitted.rows, fitted.ids, strict=True):
            tokens = _digest(ids)
            key = source_key(example.source)
            if texts.setdefault(tokens, key) != key:
                mixed.add(tokens)
    looked_at = of_sample(num_rows, num_all)
    if not mixed:
        message = Message(
            "sources with different texts have different tokens{looked_at}", looked_at=looked_at
        )
        return [Finding("ok", "same-sources", "data", message)]
    rows, num_cut = _rows_of(view, mixed)
    level: Level = "error" if len(rows) >= SAME_ERROR * num_rows else "warning"
    message = Message(
        "{share} rows have the same tokens as a row with a different source, so the base "
        "cannot tell them apart; {num_cut:,} of them are cut at {max_source_length} "
        "tokens{looked_at}",
        share=share(len(rows), num_rows),
        num_cut=num_cut,
        max_source_length=view.settings.max_source_length,
        looked_at=looked_at,
    )
    return [Finding(level, "same-sources", places(rows), message, _fix(view, len(rows), num_cut))]


def _rows_of(view: DataView, mixed: set[bytes]) -> tuple[list[Example], int]:
    """Return the rows whose tokens have one of these hashes, and how many of their sources were truncated."""
    rows, num_cut = [], 0
    for part in view.parts:
        fitted = view.fitted(part)
        for example, ids, cut in zip(fitted.rows, fitted.ids, fitted.cuts.tolist(), strict=True):
            if _digest(ids) in mixed:
                rows.append(example)
                num_cut += cut > 0
    return rows, num_cut


def _digest(ids: Sequence[int]) -> bytes:
    """Hash token ids; keeping the ids of 20,000 sources instead would take a hundred megabytes."""
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=16).digest()


def _fix(view: DataView, num_rows: int, num_cut: int) -> str:
    by_length = Message("Raise data.max_source_length.")
    if num_cut and view.settings.source_truncation == "right":
        by_length = Message("Raise data.max_source_length, or set data.source_truncation: context.")
    if num_cut == num_rows:
        return by_length
    by_tokens = Message("replace what the tokenizer does not know, or use another base.")
    if num_cut:
        return Message("{by_length:clause}, or {by_tokens}", by_length=by_length, by_tokens=by_tokens)
    return Message("Replace what the tokenizer does not know, or use another base.")


# Effect of the name of a control token in a text.
EFFECTS = {"eos": Message("the end of the text"), "pad": "padding", "unk": Message("an unknown character")}


def check_control_tokens(view: DataView) -> list[Finding]:
    """Find texts that contain the name of a control token, which the tokenizer reads as that token."""
    assert view.tokenizer is not None
    findings = []
    for side in ("source", "response"):
        encoded = view.encoded("train", side)
        by_name: dict[str, list[Example]] = {}
        for example in encoded.rows:
            for name in control_tokens(view.tokenizer, getattr(example, side)):
                by_name.setdefault(name, []).append(example)
        for name, rows in by_name.items():
            token = getattr(view.tokenizer, f"{name}_token")
            message = Message(
                "{share} training {sides} contain the text `{token}`, which the tokenizer "
                "reads as {effects}{of_sample}",
                share=share(len(rows), len(encoded.rows)),
                sides=shown_sides(side),
                token=token,
                effects=EFFECTS[name],
                of_sample=of_sample(len(encoded.rows), view.num_rows("train")),
            )
            fix = Message("Remove the text, or spell it differently, so that it is not the token's name.")
            findings.append(Finding("warning", "control-tokens", places(rows), message, fix))
    return findings or [
        Finding("ok", "control-tokens", "data", Message("no text contains the name of a control token"))
    ]


def control_tokens(tokenizer: TextTokenizer, text: str) -> list[str]:
    """List the control tokens whose names a text contains and the tokenizer reads as such."""
    found = []
    for name in EFFECTS:
        token, token_id = getattr(tokenizer, f"{name}_token"), getattr(tokenizer, f"{name}_token_id")
        if token and token in text and token_id in tokenizer.ids([text])[0][:-1]:
            found.append(name)
    return found

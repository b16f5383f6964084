"""Whether the base can tell rows apart, and what in a text it takes for an order: told by their tokens."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from loraloom.checks.data.data_view import DataView, of_sample, places, share
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.finding import Finding, Level
from loraloom.data.examples import Example
from loraloom.data.splitting.groups import source_key

# The share of rows from which training teaches nothing but noise.
SAME_ERROR = 0.05


def check_same_sources(seen: DataView) -> list[Finding]:
    """Rows that ask different things and are one to the base, because of a cut or of its tokenizer."""
    texts: dict[bytes, bytes] = {}
    mixed: set[bytes] = set()
    num_rows = num_all = 0
    for part in seen.parts:
        fitted = seen.fitted(part)
        num_rows, num_all = num_rows + len(fitted.rows), num_all + len(seen.parts[part])
        for example, ids in zip(fitted.rows, fitted.ids, strict=True):
            tokens = _digest(ids)
            key = source_key(example.source)
            if texts.setdefault(tokens, key) != key:
                mixed.add(tokens)
    looked_at = of_sample(num_rows, num_all)
    if not mixed:
        message = f"sources that differ in their text differ in their tokens{looked_at}"
        return [Finding("ok", "same-sources", "data", message)]
    rows, num_cut = _rows_of(seen, mixed)
    level: Level = "error" if len(rows) >= SAME_ERROR * num_rows else "warning"
    message = (
        f"{share(len(rows), num_rows)} rows have the tokens of a row whose source is another text, so that "
        f"the base cannot tell them apart; {num_cut:,} of them are cut at "
        f"{seen.settings.max_source_length} tokens{looked_at}"
    )
    return [Finding(level, "same-sources", places(rows), message, _fix(seen, len(rows), num_cut))]


def _rows_of(seen: DataView, mixed: set[bytes]) -> tuple[list[Example], int]:
    """The rows that have one of these sources, and how many of them were cut."""
    rows, num_cut = [], 0
    for part in seen.parts:
        fitted = seen.fitted(part)
        for example, ids, cut in zip(fitted.rows, fitted.ids, fitted.cuts.tolist(), strict=True):
            if _digest(ids) in mixed:
                rows.append(example)
                num_cut += cut > 0
    return rows, num_cut


def _digest(ids: Sequence[int]) -> bytes:
    """What stands for some tokens; 20,000 tuples of them would be a hundred megabytes."""
    return hashlib.blake2b(array("i", ids).tobytes(), digest_size=16).digest()


def _fix(seen: DataView, num_rows: int, num_cut: int) -> str:
    ways = []
    if num_cut:
        ways.append("raise data.max_source_length")
        if seen.settings.source_truncation == "right":
            ways.append("set data.source_truncation: context")
    if num_cut < num_rows:
        ways.append("replace what the tokenizer does not know, or take another base")
    text = ", or ".join(ways)
    return f"{text[0].upper()}{text[1:]}."


# What becomes of a control token's name in a text.
EFFECTS = {"eos": "the end of the text", "pad": "padding", "unk": "an unknown character"}


def check_control_tokens(seen: DataView) -> list[Finding]:
    """Texts that hold the name of a control token: the tokenizer makes the token itself of it."""
    assert seen.tokenizer is not None
    findings = []
    for side in ("source", "response"):
        encoded = seen.encoded("train", side)
        by_name: dict[str, list[Example]] = {}
        for example in encoded.rows:
            for name in control_tokens(seen.tokenizer, getattr(example, side)):
                by_name.setdefault(name, []).append(example)
        for name, rows in by_name.items():
            token = getattr(seen.tokenizer, f"{name}_token")
            message = (
                f"{share(len(rows), len(encoded.rows))} training {side}s hold the text `{token}`, which the "
                f"tokenizer takes for {EFFECTS[name]}{of_sample(len(encoded.rows), len(seen.split.train))}"
            )
            fix = "Take it out, or write it in another way."
            findings.append(Finding("warning", "control-tokens", places(rows), message, fix))
    return findings or [Finding("ok", "control-tokens", "data", "no text holds the name of a control token")]


def control_tokens(tokenizer: TextTokenizer, text: str) -> list[str]:
    """Which control tokens a text's own characters become: `eos`, `pad`, `unk`."""
    found = []
    for name in EFFECTS:
        token, token_id = getattr(tokenizer, f"{name}_token"), getattr(tokenizer, f"{name}_token_id")
        if token and token in text and token_id in tokenizer.ids([text])[0][:-1]:
            found.append(name)
    return found

"""The check of the rows' languages, if the base is multilingual: how many rows each language pair has."""

from __future__ import annotations

from collections import Counter

from loraloom.checks.finding import Finding, Level
from loraloom.checks.gate import Gate
from loraloom.text.message import Message

# A pair with this many times the rows of another decides what is learnt.
UNBALANCED = 10
SHOWN_PAIRS = 8


def check_languages(gate: Gate) -> list[Finding]:
    """Report how many training rows each language pair has, and pairs that are probably a mistake."""
    languages = gate.base.languages
    if languages is None:
        return []
    rows = ((row.input_ids.tolist(), row.labels.tolist()) for row in gate.train_set)
    pairs = Counter(pair for row in rows if (pair := languages.pair_of(*row))).most_common()
    if not pairs:
        return []
    shown = ", ".join(f"{source}-{target} {num:,}" for (source, target), num in pairs[:SHOWN_PAIRS])
    more = (
        Message(", and {num_pairs} more pairs", num_pairs=len(pairs) - SHOWN_PAIRS)
        if len(pairs) > SHOWN_PAIRS
        else ""
    )
    findings = [
        _finding(
            "ok", Message("training rows of each pair in an epoch: {shown}{more}", shown=shown, more=more)
        )
    ]
    same = [source for (source, target), _ in pairs if source == target]
    if same:
        message = Message(
            "sources and answers are in the same language in some rows: {same}",
            same=", ".join(same[:SHOWN_PAIRS]),
        )
        findings.append(_finding("warning", message, Message("Check data.source_lang and data.target_lang.")))
    most, fewest = pairs[0][1], pairs[-1][1]
    if most >= UNBALANCED * fewest:
        (source, target), _ = pairs[-1]
        message = Message(
            "the largest pair has {most:.0f} times the rows of {source}-{target}",
            most=most / fewest,
            source=source,
            target=target,
        )
        fix = Message(
            "Set data.language_temperature, for example to 5, so that rows of small pairs are repeated."
        )
        findings.append(_finding("note", message, fix))
    if languages.begins_target and not languages.begins_source:
        message = Message(
            "the tokenizer's legacy_behaviour puts the language code of a source at its end; answers begin "
            "with their code, because `generate` forces it there, although the tokenizer would put this code "
            "at the end too"
        )
        findings.append(_finding("note", message))
    return findings


def _finding(level: Level, message: str, fix: str = "") -> Finding:
    return Finding(level, "languages", "data", message, fix)

"""All data checks, by the names that findings and `--allow` use, in display order."""

from __future__ import annotations

from collections.abc import Callable

from loraloom.checks.data.damaged_text import check_characters, check_html
from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.duplicates import check_duplicates, check_leakage, check_near_duplicates
from loraloom.checks.data.history import check_history
from loraloom.checks.data.personal_data import check_personal_data
from loraloom.checks.data.placeholders import check_placeholders
from loraloom.checks.data.responses import check_alike, check_copied, check_cut_off
from loraloom.checks.data.round_trip import check_round_trip
from loraloom.checks.data.same_sources import check_control_tokens, check_same_sources
from loraloom.checks.data.scripts import check_scripts
from loraloom.checks.data.target_tags import check_target_tags
from loraloom.checks.data.tokenization import (
    check_answer_length,
    check_lengths,
    check_truncation,
    check_unknown_tokens,
)
from loraloom.checks.finding import Finding

DataCheck = Callable[[DataView], list[Finding]]

DATA: dict[str, DataCheck] = {
    "leakage": check_leakage,
    "duplicates": check_duplicates,
    "near-duplicates": check_near_duplicates,
    "history": check_history,
    "alike": check_alike,
    "placeholders": check_placeholders,
    "copied": check_copied,
    "cut-off": check_cut_off,
    "characters": check_characters,
    "html": check_html,
    "personal-data": check_personal_data,
    "scripts": check_scripts,
}
# These need the tokenizer of the base.
TOKENS: dict[str, DataCheck] = {
    "lengths": check_lengths,
    "truncation": check_truncation,
    "same-sources": check_same_sources,
    "answer-length": check_answer_length,
    "control-tokens": check_control_tokens,
    "target-tags": check_target_tags,
    "unknown-tokens": check_unknown_tokens,
    "round-trip": check_round_trip,
}


def run_data_checks(view: DataView) -> list[Finding]:
    """Run all data checks; skip those that need a tokenizer if there is none."""
    findings = [finding for check in DATA.values() for finding in check(view)]
    return findings + (run_token_checks(view) if view.tokenizer is not None else [])


def run_token_checks(view: DataView) -> list[Finding]:
    """Run the checks that need the base's tokenizer."""
    return [finding for check in TOKENS.values() for finding in check(view)]

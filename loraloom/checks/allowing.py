"""The checks by name, and what `--allow CHECK` makes of their errors."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import replace

from loraloom.checks.finding import Finding

_CRASH = "training would stop at its first step"
_WRONG = "training would go through, and what it learnt would be wrong"

# Every check, as findings name it, and why its errors cannot be allowed; empty where they can.
CHECKS: dict[str, str] = {
    # the data
    "data": "",
    "split": "",
    "leakage": "",
    "duplicates": "",
    "near-duplicates": "",
    "alike": "",
    "copied": "",
    "cut-off": "",
    "characters": "",
    "html": "",
    "personal-data": "",
    "scripts": "",
    "lengths": "",
    "truncation": "",
    "unknown-tokens": "",
    "round-trip": "",
    # the model
    "device": "",
    "dtype": "",
    "head": "",
    "tokenizer": _CRASH,
    "special-tokens": _WRONG,
    "targets": "",
    "shapes": _CRASH,
    "labels": _WRONG,
    "loss": _WRONG,
    "start": _WRONG,
    "gradient": _WRONG,
    "generation": "",
    # what will come of it
    "movement": "",
    "learning": "",
    "memory": "",
    "time": "",
    "disk": "what was learnt could not be saved",
}


def why_not_allowable(name: str) -> str:
    """Why `--allow NAME` is refused, as a sentence with what may stand there; empty where it is not."""
    if name not in CHECKS:
        near = difflib.get_close_matches(name, CHECKS, n=1)
        guess = f" Did you mean {near[0]}?" if near else ""
        return f"there is no check `{name}`.{guess} The checks: {', '.join(CHECKS)}"
    if reason := CHECKS[name]:
        return f"an error of `{name}` cannot be allowed: {reason}"
    return ""


def apply_allowed(findings: Iterable[Finding], allowed: Collection[str]) -> list[Finding]:
    """Errors that the user allows become warnings that say so; others say how they can be allowed.

    Args:
        findings: of any checks.
        allowed: names of checks, as `--allow` gave them.
    """
    return [_settled(finding, allowed) if finding.level == "error" else finding for finding in findings]


def _settled(finding: Finding, allowed: Collection[str]) -> Finding:
    if CHECKS.get(finding.check):
        return finding
    option = f"--allow {finding.check}"
    if finding.check in allowed:
        return replace(finding, level="warning", message=f"{finding.message} (allowed by {option})")
    fix = (
        f"{finding.fix.rstrip('.')}, or accept it with {option}."
        if finding.fix
        else f"Or accept it: {option}."
    )
    return replace(finding, fix=fix)

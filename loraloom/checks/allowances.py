"""What `--allow CHECK` makes of a check's errors.

Only errors of the data can be allowed: whether rows are as they are on purpose is the user's to judge. An
error of the model is no opinion: training would crash, or go through and be wrong, or could not be saved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from loraloom.checks.data.data_suite import DATA, TOKENS
from loraloom.checks.finding import Finding
from loraloom.recipe.typos import nearest

ALLOWABLE = (*DATA, *TOKENS)


def why_not_allowable(name: str) -> str:
    """Why `--allow NAME` is refused, as a sentence with what may stand there; empty where it is not."""
    if name in ALLOWABLE:
        return ""
    known = f"The checks of the data: {', '.join(ALLOWABLE)}"
    if near := nearest(name, ALLOWABLE):
        return f"there is no check `{name}` of the data. Did you mean {near}? {known}"
    return (
        f"`{name}` cannot be allowed: it is no check of the data, and after any other error training would "
        f"crash, or go through and what it learnt would be wrong. {known}"
    )


def apply_allowed(findings: Iterable[Finding], allowed: Collection[str]) -> list[Finding]:
    """Errors that the user allows become warnings that say so; others say how they can be allowed.

    Args:
        findings: of any checks.
        allowed: names of checks, as `--allow` gave them.
    """
    return [_settled(finding, allowed) if finding.level == "error" else finding for finding in findings]


def _settled(finding: Finding, allowed: Collection[str]) -> Finding:
    if finding.check not in ALLOWABLE:
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

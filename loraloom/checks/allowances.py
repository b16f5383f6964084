"""The effect of `--allow CHECK` on a check's errors.

Only errors in the data can be allowed, because only the user can judge whether rows are intentional. An
error in the model is not a matter of judgement: training would crash, learn something wrong, or fail to save
its result.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from loraloom.checks.data.data_suite import DATA, TOKENS
from loraloom.checks.finding import Finding
from loraloom.recipe.typos import nearest
from loraloom.text.message import Message

ALLOWABLE = (*DATA, *TOKENS)


def why_not_allowable(name: str) -> str:
    """Explain why `--allow NAME` is refused, and what is allowed; "" if it is not refused."""
    if name in ALLOWABLE:
        return ""
    known = Message("Data checks: {allowable}", allowable=", ".join(ALLOWABLE))
    if near := nearest(name, ALLOWABLE):
        return Message(
            "there is no data check `{name}`. Did you mean `{near}`? {known}",
            name=name,
            near=near,
            known=known,
        )
    return Message(
        "`{name}` cannot be allowed, because it is not a data check: after any other error, training "
        "would crash or learn something wrong. {known}",
        name=name,
        known=known,
    )


def apply_allowed(findings: Iterable[Finding], allowed: Collection[str]) -> list[Finding]:
    """Turn allowed errors into warnings, and state in the fix of other data errors how to allow them.

    Args:
        findings: findings of any checks.
        allowed: names of checks, as given by `--allow`.
    """
    return [_settled(finding, allowed) if finding.level == "error" else finding for finding in findings]


def _settled(finding: Finding, allowed: Collection[str]) -> Finding:
    if finding.check not in ALLOWABLE:
        return finding
    option = Message("--allow {check}", check=finding.check)
    if finding.check in allowed:
        return replace(
            finding,
            level="warning",
            message=Message("{message} (allowed by {option})", message=finding.message, option=option),
        )
    fix = (
        Message("{fix:clause}, or accept it with {option}.", fix=finding.fix, option=option)
        if finding.fix
        else Message("Accept it with {option}.", option=option)
    )
    return replace(finding, fix=fix)

"""Findings of checks, and how an error among them stops training."""

from __future__ import annotations

from collections.abc import Iterable

from loraloom.errors import CheckError, Problem
from loraloom.run.documents.checks import Finding, Level
from loraloom.text.message import Message

__all__ = ["Finding", "Level", "raise_errors"]


def raise_errors(findings: Iterable[Finding]) -> None:
    """Raise CheckError if any finding is an error.

    Raises:
        CheckError: lists every error.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise CheckError(
            Problem(
                Message("check `{check}` failed: {message}", check=finding.check, message=finding.message),
                where=finding.where,
                fix=finding.fix,
            )
            for finding in errors
        )

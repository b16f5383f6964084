"""The result of a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from loraloom.errors import CheckError, Problem

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One line of the table that `loraloom check` prints.

    Args:
        level: `error` stops training, `warning` does not, `note` is for information.
        check: name of the check, as used by `--allow`.
        where: the key, file or module concerned.
        message: what was found; never the text of a row.
        fix: what to do about it.
    """

    level: Level
    check: str
    where: str
    message: str
    fix: str = ""

    @property
    def line(self) -> str:
        """Format everything but the check's name in one line."""
        text = f"{self.level}: {self.where}: {self.message}"
        return f"{text.rstrip('.')}. {self.fix}" if self.fix else text

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values for checks.json."""
        return asdict(self)

    def translated(self, table: Mapping[int, str]) -> Finding:
        """Apply `str.translate` to each of its texts, for example to make them safe for a terminal."""
        where, message, fix = (text.translate(table) for text in (self.where, self.message, self.fix))
        return replace(self, where=where, message=message, fix=fix)


def raise_errors(findings: Iterable[Finding]) -> None:
    """Raise if a check found an error.

    Raises:
        CheckError: lists every error.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise CheckError(
            Problem(
                f"check `{finding.check}` failed: {finding.message}", where=finding.where, fix=finding.fix
            )
            for finding in errors
        )

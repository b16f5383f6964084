"""checks.json: what the checks found before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from loraloom.run.documents.document import JsonObject, Text, parse, to_stored_json
from loraloom.text.message import Message

Level = Literal["ok", "note", "warning", "error"]
LEVELS: dict[Level, Message] = {
    "ok": Message("ok"),
    "note": Message("note"),
    "warning": Message("warning"),
    "error": Message("error"),
}
"""Each level as people read it."""


@dataclass(frozen=True)
class Finding:
    """One line of the table that `loraloom check` prints.

    Args:
        level: `error`, which stops training; `warning`, which does not; `note`, worth knowing; or `ok`.
        check: the check's name, as it is given to `--allow`.
        where: the key, file or module concerned.
        message: what was found; it never contains text from a row.
        fix: what to do.
    """

    level: Level
    check: str
    where: Text
    message: Text
    fix: Text = ""

    @property
    def line(self) -> Message:
        """The whole finding in one line, without the check's name."""
        level: Message = LEVELS[self.level]
        text = Message("{level}: {where}: {message}", level=level, where=self.where, message=self.message)
        return Message("{finding:clause}. {fix}", finding=text, fix=self.fix) if self.fix else text

    def to_json(self) -> JsonObject:
        """Return the finding as checks.json stores it."""
        return asdict(self)

    def mapped(self, change: Callable[[str], str]) -> Finding:
        """Return the finding with `change` applied to each of its texts, for example to render them."""
        where, message, fix = map(change, (self.where, self.message, self.fix))
        return replace(self, where=where, message=message, fix=fix)


_FINDINGS = TypeAdapter(list[Finding])


def read_checks(path: Path) -> list[Finding]:
    """Return the findings of checks.json.

    Raises:
        RunError: the file is missing or damaged.
    """
    findings: list[Finding] = parse(_FINDINGS, path)
    return findings


def checks_text(findings: Iterable[Finding]) -> str:
    """Return the content of checks.json."""
    return to_stored_json([finding.to_json() for finding in findings])

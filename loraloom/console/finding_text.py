"""Findings as lines of text: most severe first, passed checks folded into one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from loraloom.checks.finding import Finding
from loraloom.console.wrapping import wrapped
from loraloom.run.documents.checks import LEVELS
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message, joined
from loraloom.text.units import counted

# Most severe first.
COLOURS = {"error": "red", "warning": "yellow", "note": "blue", "ok": "green"}
# The matches of the targets are worth reading even if nothing is wrong.
SHOWN_IN_ORDER = ("targets",)
INDENT = "  "


def to_show(findings: Iterable[Finding], *, show_all: bool) -> list[Finding]:
    """Select the findings to show in full, most severe first."""
    shown = [f for f in findings if show_all or f.level != "ok" or f.check in SHOWN_IN_ORDER]
    return sorted(shown, key=lambda finding: list(COLOURS).index(finding.level))


def paragraph(finding: Finding, width: int) -> Iterator[Text]:
    """Format a finding as lines: its place, message and fix; one line if it is short and has no fix."""
    # A note about a file begins with the file's name.
    place = "" if finding.message.startswith(finding.where) else f" {finding.where}:"
    head = Text.assemble(
        (rendered(LEVELS[finding.level]), COLOURS[finding.level]), f" {finding.check}:{place}"
    )
    message = Text(finding.message)
    if not finding.fix and head.cell_len + 1 + message.cell_len <= width:
        yield Text.assemble(head, " ", message)
        return
    fix = [Text(f"→ {finding.fix}")] if finding.fix else []
    for number, part in enumerate((head, message, *fix)):
        for line in wrapped(part, width - len(INDENT)):
            yield Text.assemble(INDENT if number else "", line)


def summary(findings: Sequence[Finding], width: int, *, with_names: bool = True) -> Iterator[Text]:
    """Yield the number of findings of each level, then the names of the checks that passed."""
    counts: Counter[str] = Counter(finding.level for finding in findings)
    every = joined(", ", (_counted(counts[level], level) for level in COLOURS if counts[level]))
    yield Text(rendered(every))
    names = {f.check: None for f in findings if f.level == "ok" and f.check not in SHOWN_IN_ORDER}
    if names and with_names:
        folded = Text(
            rendered(Message("passed (`--all` shows them): {names}", names=", ".join(names))),
            style=COLOURS["ok"],
        )
        yield from wrapped(folded, width)


def _counted(count: int, level: str) -> str:
    if level == "ok":
        return Message("{count} passed", count=count)
    return {"error": counted(count, "error"), "warning": counted(count, "warning")}.get(
        level, counted(count, "note")
    )

"""Findings as lines of text: the worst first, what is in order folded into one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from loraloom.checks.finding import Finding

# The worst first.
COLOURS = {"error": "red", "warning": "yellow", "note": "blue", "ok": "green"}
# What the targets stand for is worth reading though it is in order.
SHOWN_IN_ORDER = ("targets",)
INDENT = "  "


def to_show(findings: Iterable[Finding], *, show_all: bool) -> list[Finding]:
    """Those to show in full, the worst first."""
    shown = [f for f in findings if show_all or f.level != "ok" or f.check in SHOWN_IN_ORDER]
    return sorted(shown, key=lambda finding: list(COLOURS).index(finding.level))


def paragraph(finding: Finding, width: int, console: Console) -> Iterator[Text]:
    """Level, check and place; then what was found and what to do, in the same line where they are short."""
    # What a note on a file says begins with the file's name.
    place = "" if finding.message.startswith(finding.where) else f" {finding.where}:"
    head = Text.assemble((finding.level, COLOURS[finding.level]), f" {finding.check}:{place}")
    message = Text(finding.message)
    if not finding.fix and head.cell_len + 1 + message.cell_len <= width:
        yield Text.assemble(head, " ", message)
        return
    fix = [Text(f"→ {finding.fix}")] if finding.fix else []
    for number, part in enumerate((head, message, *fix)):
        for line in part.wrap(console, width - len(INDENT)):
            line.rstrip()
            yield Text.assemble(INDENT if number else "", line)


def summary(
    findings: Sequence[Finding], width: int, console: Console, *, with_names: bool = True
) -> Iterator[Text]:
    """How many there are of each level; then the names of those that are in order."""
    counts: Counter[str] = Counter(finding.level for finding in findings)
    yield Text(", ".join(_counted(counts[level], level) for level in COLOURS if counts[level]))
    names = {f.check: None for f in findings if f.level == "ok" and f.check not in SHOWN_IN_ORDER}
    if names and with_names:
        folded = Text(f"in order (--all shows them): {', '.join(names)}", style=COLOURS["ok"])
        for line in folded.wrap(console, width):
            line.rstrip()
            yield line


def _counted(count: int, level: str) -> str:
    if level == "ok":
        return f"{count} in order"
    return f"{count} {level}{'s' if count > 1 else ''}"

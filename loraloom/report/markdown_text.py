"""Pieces of a report in Markdown: escaped text, code blocks, collapsible blocks, tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from loraloom.report import figures
from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import rendered
from loraloom.text.visible import visible

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
_MENTION = re.compile(r"([@#])(?=\w)")


def plain(text: str) -> str:
    """Put a text on one line and escape it for Markdown: no links, tags or mentions."""
    # GitHub resolves @names and #numbers after rendering, when a backslash no longer helps.
    return _MENTION.sub("\\1\u2060", _MARKDOWN.sub(r"\\\1", " ".join(visible(rendered(text)).split())))


def word(word: str) -> str:
    """Format a status, level or verdict from a run's files."""
    return plain(shown_word(word))


def label(key: str) -> str:
    """Return the name of a figure, or the key of an unknown one."""
    return rendered(figures.described(key).label) or key


def fenced(text: str, language: str = "text") -> str:
    """Format a text as a code block, fenced by more backticks than occur in a row in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table with names aligned left and figures aligned right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *rows])


def folded(title: str, inside: str) -> str:
    """Format a collapsed block, of which only the title is visible at first."""
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"

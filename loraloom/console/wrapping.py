"""Breaking styled text into lines that fit the terminal, at the places that `text/line_breaks.py` allows."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.containers import Lines
from rich.text import Text

from loraloom.text.line_breaks import line_breaks

TAB_WIDTH = 8


def wrapped(text: Text, width: int, *, breaks_words: bool = True) -> list[Text]:
    """Break a text into lines, and strip the white space at the end of each.

    Args:
        text: text of one paragraph, with its styles.
        width: columns in a line; a Chinese character takes two.
        breaks_words: whether a word that is longer than a line is broken.
    """
    lines = list(text.divide(line_breaks(text.plain, max(width, 2), breaks_words=breaks_words)))
    for line in lines:
        line.rstrip()
    return lines


class BreakableText(Text):
    """Text that rich breaks into lines as `wrapped` does, for example in a table cell."""

    @classmethod
    def of(cls, text: Text) -> BreakableText:
        """Convert a `Text` of the `rich` library, keeping its styles."""
        return cls(text.plain, style=text.style, spans=text.spans, overflow="fold")

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Break each paragraph of the text into lines of at most `width` columns."""
        return Lines(line for part in self.split("\n", allow_blank=True) for line in wrapped(part, width))


def print_text(console: Console, text: Text, *, first: str = "", indent: str = "") -> None:
    """Print a text: on a terminal in lines that fit it, otherwise unchanged.

    A word that is longer than a line is left for the terminal to break, so that a path or a URL can still be
    copied whole.

    Args:
        console: where to print.
        text: text of any number of paragraphs, with its styles.
        first: text to print before the first line.
        indent: text to print before each continuation line on a terminal.
    """
    if console.is_terminal:
        width = console.width - max(len(first), len(indent))
        parts = text.split("\n", allow_blank=True)
        for part in parts:
            part.expand_tabs(TAB_WIDTH)
        text, *more = [line for part in parts for line in wrapped(part, width, breaks_words=False)]
    else:
        more = []
    further = (Text.assemble(indent if line else "", line) for line in more)
    console.print(Text.assemble(first, text), *further, sep="\n", soft_wrap=True)

"""Breaking of styled text into lines that fit the terminal, at the places of `text/line_breaks.py`."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.containers import Lines
from rich.text import Text

from loraloom.text.line_breaks import line_breaks


def wrapped(text: Text, width: int) -> list[Text]:
    """Break a text into lines without white space at their ends.

    Args:
        text: text of one paragraph, with its styles.
        width: columns in a line; a Chinese character takes two.
    """
    lines = list(text.divide(line_breaks(text.plain, max(width, 2))))
    for line in lines:
        line.rstrip()
    return lines


class BreakableText(Text):
    """Text that rich breaks into lines as `wrapped` does, for example in a table's cell."""

    @classmethod
    def of(cls, text: Text) -> BreakableText:
        """Convert a text of rich, with its styles."""
        return cls(text.plain, style=text.style, spans=text.spans, overflow="fold")

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Break each paragraph of the text."""
        return Lines(line for part in self.split("\n", allow_blank=True) for line in wrapped(part, width))

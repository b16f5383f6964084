"""Breaking of text into lines: English between words, Chinese between characters.

rich and textwrap break at spaces only, so a Chinese sentence would be one long word that begins on a line of
its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60\U00020000-\U0003fffd"
_OPENING = "（“‘《「【"
_CLOSING = "，。；：？！、）”’》」】…"
# What stays together: a figure with its sign, a wide character, or a word; with the punctuation that may not
# begin a line or end one.
_UNIT = re.compile(
    rf"\s+|[{_OPENING}]*(?:[\d.,]+ %|[^\s{_WIDE}{_OPENING}]+?(?=[{_CLOSING}{_WIDE}{_OPENING}\s]|$)|[{_WIDE}])"
    rf"[{_CLOSING}]*|."
)


def wrapped(text: Text, width: int) -> list[Text]:
    """Break a text into lines without white space at their ends.

    Args:
        text: text of one paragraph, with its styles.
        width: columns of a line; a Chinese character takes two.
    """
    lines = list(text.divide(_breaks(text.plain, max(width, 2))))
    for line in lines:
        line.rstrip()
    return lines


def _breaks(text: str, width: int) -> Iterator[int]:
    """Yield the offsets at which a line begins, but for the first."""
    column = 0
    for unit in _UNIT.finditer(text):
        piece = unit.group()
        if piece.isspace():
            column += cell_len(piece)
            continue
        if column > 0 and column + cell_len(piece) > width:
            yield unit.start()
            column = 0
        for offset, char in enumerate(piece, start=unit.start()):
            if column + cell_len(char) > width:
                yield offset
                column = 0
            column += cell_len(char)

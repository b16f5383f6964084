"""Breaking of text into lines by display width: English between words, Chinese between characters.

rich and textwrap break at spaces only, so a Chinese sentence would be one long word that begins on a line of
its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.cells import cell_len

_WIDE = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60\U00020000-\U0003fffd"
_OPENING = "（“‘《「【"
_CLOSING = "，。；：？！、）”’》」】…"
# Units that are not broken: a number with its percent sign, a wide character, or a word; with the punctuation
# that must not begin or end a line.
_UNIT = re.compile(
    rf"\s+|[{_OPENING}]*(?:[\d.,]+ %|[^\s{_WIDE}{_OPENING}]+?(?=[{_CLOSING}{_WIDE}{_OPENING}\s]|$)|[{_WIDE}])"
    rf"[{_CLOSING}]*|."
)
_AFTER_SENTENCE = re.compile(r"(?<=[，。；：？！、）》」】]) ")
_WIDE_CHARACTER = re.compile(f"[{_WIDE}]")


def line_breaks(text: str, width: int, *, breaks_words: bool = True) -> Iterator[int]:
    """Yield the offset at which each line begins, except the first.

    Args:
        text: one paragraph.
        width: columns in a line; a Chinese character takes two.
        breaks_words: whether a word that is longer than a line is broken.
    """
    column = 0
    for unit in _UNIT.finditer(text):
        piece = unit.group()
        if piece.isspace():
            column += cell_len(piece)
            continue
        if column > 0 and column + cell_len(piece) > width:
            yield unit.start()
            column = 0
        if not breaks_words:
            column += cell_len(piece)
            continue
        for offset, char in enumerate(piece, start=unit.start()):
            if column + cell_len(char) > width:
                yield offset
                column = 0
            column += cell_len(char)


def lines_of(text: str, width: int) -> list[str]:
    """Break a paragraph into lines for a file; words stay whole, and any white space becomes one space.

    In Chinese text, spaces after punctuation are removed, and the last word or character does not stand alone
    on a line: the one before it is moved to the same line if both fit.

    Args:
        text: one paragraph.
        width: columns in a line; a Chinese character takes two.
    """
    text = _AFTER_SENTENCE.sub("", " ".join(text.split()))
    starts = [0, *line_breaks(text, width, breaks_words=False)]
    units = [unit.start() for unit in _UNIT.finditer(text) if not unit.group().isspace()]
    if len(starts) > 1 and units[-1] == starts[-1] and _WIDE_CHARACTER.search(text):
        together = max(units[-2], starts[-2])
        if cell_len(text[together:]) <= width:
            starts[-1] = together
    ends = [*starts[1:], len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True) if start < end]

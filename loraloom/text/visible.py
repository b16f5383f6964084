"""Escaping characters that are invisible or that move a terminal's cursor.

Unicode's property for invisible characters (Default_Ignorable_Code_Point) comes from the package `regex`,
which is imported when the first text needs it, so that `loraloom --help` starts faster.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from loraloom.text.message import Message

LONGEST_NAME = 80  # maximum number of characters of a name in a message

# Controls (except line feed and tab), surrogates, line separators, what reorders text, what has no width.
# Joiners and variation selectors are kept: emoji and several scripts need them.
_UNSEEN = r"""[
    [\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Default_Ignorable_Code_Point}\uFFF9-\uFFFB]
    -- [\t\n\u200C\u200D\u034F\uFE00-\uFE0F\U000E0100-\U000E01EF]
]"""


@functools.cache
def unseen() -> Any:
    """Compile a pattern for one character that is invisible or moves a terminal's cursor."""
    import regex

    return regex.compile(_UNSEEN, regex.VERBOSE | regex.VERSION1)


def escape(char: str) -> str:
    """Escape a character as Python does: `\\u202e`."""
    return ascii(char)[1:-1]


def visible(text: str, mark: Callable[[str], str] = str) -> str:
    """Escape the invisible characters in a text; line feeds and tabs are kept.

    Args:
        text: text from any source, with any number of lines.
        mark: formats each escape sequence, for example to highlight it on a page.

    >>> visible("pay\\u202e"), visible("two\\nlines")
    ('pay\\\\u202e', 'two\\nlines')
    """
    if text.isascii() and text.isprintable():
        return text
    return str(unseen().sub(lambda match: mark(escape(match.group())), text))


def printable(text: str, limit: int = LONGEST_NAME) -> str:
    """Put a name or path on one line, escaping unprintable characters and shortening it if it is long.

    >>> printable("two\\nlines"), printable("abcdef", limit=4)
    ('two\\\\nlines', 'abc…')
    """
    shown = visible(text[: limit + 1])
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else escape(char) for char in shown)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def quoted(name: str, limit: int = LONGEST_NAME) -> str:
    """Format a name for a message: printable, shortened if it is long, in backticks."""
    return f"`{printable(name, limit)}`"


def shown_value(value: Any) -> str:
    """Format a recipe's value for a message: short, on one line; of a mapping or list, only the type."""
    if value is None:
        return Message("nothing")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return Message("a mapping")
    if isinstance(value, list):
        return Message("a list") if value else Message("an empty list")
    return printable(repr(value), 60)


def one_line(said: object, limit: int = 300) -> str:
    """Join the lines of another program's message into one, because the second line often names the cause.

    Args:
        said: the message, as an exception or as text.
        limit: maximum number of characters; a longer text is cut at a word and ends in an ellipsis.
    """
    text = " ".join(str(said).split())
    return text if len(text) <= limit else f"{text[:limit].rpartition(' ')[0] or text[:limit]} …"

"""Characters that no text means, and that tokenizers and files choke on."""

from __future__ import annotations

import re

# Line and form feeds are white space; the other control characters and half a surrogate pair are never meant.
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]")


def bad_character(text: str) -> tuple[str, int] | None:
    """The first character that cannot be meant: its name for a message, and its place, from 1."""
    found = _NOT_TEXT.search(text)
    return (_name(found.group()), found.start() + 1) if found else None


def _name(char: str) -> str:
    code = ord(char)
    if code == 0:
        return "NUL (U+0000)"
    kind = "half a surrogate pair" if code >= 0xD800 else "a control character"
    return f"{kind} (U+{code:04X})"

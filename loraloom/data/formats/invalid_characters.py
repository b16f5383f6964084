"""Characters that are never valid in text and break tokenizers and files."""

from __future__ import annotations

import re

# Line and form feeds are white space; other control characters and unpaired surrogates are never intended.
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]")


def bad_character(text: str) -> tuple[str, int] | None:
    """Return the name of the first invalid character and its position, from 1; None if all are valid."""
    found = _NOT_TEXT.search(text)
    return (_name(found.group()), found.start() + 1) if found else None


def _name(char: str) -> str:
    code = ord(char)
    if code == 0:
        return "NUL (U+0000)"
    kind = "an unpaired surrogate" if code >= 0xD800 else "a control character"
    return f"{kind} (U+{code:04X})"

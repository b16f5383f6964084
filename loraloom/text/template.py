"""Message templates, such as `{path} has {num_rows:,} rows`, and how they are filled with values.

Templates use a part of Python's format syntax: `{name}`, `{name:,}`, `{name:.4f}`, and two format specifiers
of our own for a value that is a sentence: `{fix:clause}` drops its full stop, `{fix:sentence}` adds one if it
has none. Attribute access and field widths are not supported, because templates also come from files that
anyone may have edited.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

_PIECE = re.compile(
    r"(?P<brace>\{\{|\}\})|\{(?P<name>[A-Za-z_]\w*)(?::(?P<spec>clause|sentence|[+,]{0,2}(?:\.\d{1,2})?[defg%]?))?\}"
)
_ENDS = (".", "?", "!", "。", "？", "！")


@functools.lru_cache(maxsize=4096)
def pieces(template: str) -> tuple[tuple[str, str, str], ...]:
    """Split a template into tuples: the text before a placeholder, its name and its format specifier.

    The last tuple has the text after all placeholders; its name and specifier are empty.
    """
    found, text, end = [], "", 0
    for match in _PIECE.finditer(template):
        text += _literal(template[end : match.start()])
        end = match.end()
        if match["brace"]:
            text += match["brace"][0]
        else:
            found.append((text, match["name"], match["spec"] or ""))
            text = ""
    return (*found, (text + _literal(template[end:]), "", ""))


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise ValueError(f"not a template of a message: {text}")
    return text


def fill(template: str, values: Mapping[str, object], full_stop: str = ".") -> str:
    """Fill in the placeholders of a template.

    Args:
        template: text with placeholders.
        values: name of a placeholder -> value.
        full_stop: the full stop of the template's language.

    Raises:
        ValueError: the template has an invalid placeholder, or a placeholder has no value.
    """
    try:
        return "".join(
            text + _formatted(values[name], spec, full_stop) if name else text
            for text, name, spec in pieces(template)
        )
    except KeyError as error:
        raise ValueError(f"a message has no value for {error}") from None


def _formatted(value: object, spec: str, full_stop: str) -> str:
    text = str(value)
    if not spec:
        return text
    if spec == "clause":
        return text.rstrip(".。")
    if spec == "sentence":
        return text if text.endswith(_ENDS) else text + full_stop
    try:
        # A number that JSON does not have was stored as text.
        return format(float(text) if isinstance(value, str) else value, spec)
    except (ValueError, TypeError, OverflowError):
        return text

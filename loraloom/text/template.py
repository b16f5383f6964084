"""Templates of messages: `{path} has {num_rows:,} rows`, and the values for their placeholders.

Templates use a part of Python's format syntax: `{name}`, `{name:,}`, `{name:.4f}`, and two specifications of
our own for sentences within sentences: `{fix:clause}` drops the full stop, `{fix:sentence}` ensures one.
There are no attributes and no widths, because templates also come from files that anyone may have edited.
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
    """Split a template into `(text, name, spec)`: the text before a placeholder, and the placeholder.

    The last piece has the text after all placeholders, and no name.
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
    """Format a template with its values.

    Args:
        template: text with placeholders.
        values: values by the names of the placeholders.
        full_stop: the end of a sentence in the template's language.

    Raises:
        ValueError: the template has an invalid placeholder, or one without a value.
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

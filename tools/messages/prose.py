"""Which literals are text for people, rather than names and code."""

from __future__ import annotations

import ast
import re

_CODE = re.compile(r"`[^`]*`")
_WORD = re.compile(r"[A-Za-z]{2,}")
# Lists of names and lines of a recipe: `lora, training`, `lora: {r: 16}`.
_NAMES = re.compile(r"[\w.]*[\d_.]\w*(, [\w.]+)*|\w+(, \w+)*|[a-z_]+: ?(\{.*\}|\[.*\]|\w+)")


def is_prose(text: str, *, weak: bool) -> bool:
    """Whether a literal has words for people, beside what is in backquotes."""
    words = _WORD.findall(_CODE.sub("", text))
    return (
        bool(words)
        and (not weak or not _NAMES.fullmatch(text))
        and (not weak or " " in text.strip() or text != text.strip())
    )


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def has_words(node: ast.JoinedStr) -> bool:
    return any(
        isinstance(each, ast.Constant) and _WORD.search(_CODE.sub("", str(each.value)))
        for each in node.values
    )

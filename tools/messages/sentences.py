"""The pieces of an f-string: literals, values, and choices between parts of a sentence."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence


def literal(text: str) -> str:
    """Write a string literal as `ruff format` does."""
    quote = "'" if '"' in text and "'" not in text else '"'
    escapes = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", quote: f"\\{quote}"}
    return quote + "".join(escapes.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in text) + quote


def literals(text: str, width: int) -> str:
    """Write a string literal, in several pieces if it is long."""
    if len(text) <= width:
        return literal(text)
    pieces, line = [], ""
    for word in re.findall(r"[^ \n]*(?:\n| +|$)", text):
        if line and (len(line) + len(word) > width or line.endswith("\n")):
            pieces.append(line)
            line = ""
        line += word
    return " ".join(literal(piece) for piece in (*pieces, line) if piece)


def escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def flattened(node: ast.JoinedStr) -> Iterator[str | ast.FormattedValue]:
    """The literals and values of an f-string; literals in braces are part of the text."""
    for each in node.values:
        if isinstance(each, ast.Constant):
            yield str(each.value)
        elif isinstance(each, ast.FormattedValue):
            yield each


def as_choice(part: ast.FormattedValue) -> ast.IfExp | None:
    """A value that is one of two literals; of `'s' * (n > 1)` too."""
    value = part.value
    if part.conversion != -1 or part.format_spec is not None:
        return None
    if (
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Mult)
        and isinstance(value.left, ast.Constant)
        and isinstance(value.left.value, str)
        and isinstance(value.right, ast.Compare)
    ):
        return ast.IfExp(value.right, value.left, ast.Constant(""))
    if isinstance(value, ast.IfExp) and all(
        isinstance(each, ast.JoinedStr) or (isinstance(each, ast.Constant) and isinstance(each.value, str))
        for each in (value.body, value.orelse)
    ):
        return value
    return None


def is_glued(parts: Sequence[str | ast.FormattedValue], number: int, choice: ast.IfExp) -> bool:
    """Whether a choice is between parts of a word."""
    before = parts[number - 1] if number else ""
    after = parts[number + 1] if number + 1 < len(parts) else ""
    before, after = (each if isinstance(each, str) else "" for each in (before, after))
    texts = [str(each.value) for each in (choice.body, choice.orelse) if isinstance(each, ast.Constant)]
    return any(
        (before[-1:].isalpha() and text[:1].isalpha()) or (after[:1].isalpha() and text[-1:].isalpha())
        for text in texts
    )


def chosen(
    parts: Sequence[str | ast.FormattedValue], test: str, way: bool
) -> Iterator[str | ast.FormattedValue]:
    """The parts of a sentence if a test has this outcome."""
    for part in parts:
        choice = None if isinstance(part, str) else as_choice(part)
        if choice is None or ast.unparse(choice.test) != test:
            yield part
            continue
        branch = choice.body if way else choice.orelse
        if isinstance(branch, ast.JoinedStr):
            yield from flattened(branch)
        elif isinstance(branch, ast.Constant) and branch.value:
            yield str(branch.value)

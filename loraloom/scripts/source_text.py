"""How a script builds a source from a row's columns: a column, a prefix before it, or a template."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from loraloom.scripts.script import Script
from loraloom.scripts.script_values import MAX_DEPTH, Item, Parameter


@dataclass(frozen=True)
class Column:
    """The text of a column in a template."""

    name: str


Pieces = list[Column | str]


def pieces_of(script: Script, node: ast.expr, depth: int = 0) -> Pieces | None:
    """Return the columns and fixed texts that an expression joins; None if it does more than join them."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(node, ast.ListComp):
        return pieces_of(script, node.elt, depth + 1)
    if isinstance(node, ast.JoinedStr):
        parts = [
            pieces_of(script, each.value if isinstance(each, ast.FormattedValue) else each, depth + 1)
            for each in node.values
        ]
        return None if None in parts else [piece for part in parts for piece in part or []]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = (pieces_of(script, each, depth + 1) for each in (node.left, node.right))
        return None if left is None or right is None else left + right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "strip":
        return pieces_of(script, node.func.value, depth + 1)
    value = script.read(node)
    if isinstance(value, str):
        return [value]
    column = _column(script, value)
    if column:
        return [Column(column)]
    if isinstance(node, ast.Name):
        found = script.names.find(node.id, node.lineno, script.scope(node))
        if found is not None and isinstance(found.value, ast.expr) and found.index is None:
            return pieces_of(script, found.value, depth + 1)
    return None


def _column(script: Script, value: object) -> str:
    """Return the column that a value comes from, such as `text` for `examples["text"]`; else ""."""
    path: list[str] = []
    for _ in range(MAX_DEPTH):
        if isinstance(value, Item):
            if isinstance(value.key, str):
                path.append(value.key)
            value = value.of
        elif isinstance(value, Parameter):
            source = script.read(value.source) if value.source is not None else None
            if not isinstance(source, Item):
                break
            value = source
        else:
            return ""
    return ".".join(reversed(path))


def columns_in(pieces: Pieces) -> list[str]:
    """Return the columns of a template, in order."""
    return [piece.name for piece in pieces if isinstance(piece, Column)]


def template_of(pieces: Pieces) -> str:
    """Return the value of `data.source_prefix` that builds the same source as these pieces.

    It is the text before the column if there is one column, at the end; otherwise the whole template. Literal
    braces are doubled.
    """
    texts = [
        f"{{{piece.name}}}" if isinstance(piece, Column) else piece.replace("{", "{{").replace("}", "}}")
        for piece in pieces
    ]
    is_prefix = len(columns_in(pieces)) == 1 and isinstance(pieces[-1], Column)
    return "".join(texts[:-1] if is_prefix else texts)

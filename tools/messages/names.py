"""Names of placeholders, from the expressions that they stand for."""

from __future__ import annotations

import ast
import keyword
import re

from tools.messages.sources import called_name


def name_of(node: ast.AST) -> str:
    """A name for the placeholder of an expression."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case ast.NamedExpr(target=ast.Name(id=name)):
            return name
        case ast.Call() if called_name(node) == "len" and node.args:
            return f"num_{name_of(node.args[0]).removeprefix('num_')}"
        case ast.Call() if called_name(node) == "getattr":
            return name_of(node.args[1])
        case ast.Call() if called_name(node) == "join" and node.args:
            return name_of(node.args[0])
        case ast.Call() if called_name(node) == "counted" and len(node.args) > 1:
            noun = node.args[-1]
            if not isinstance(noun, ast.Constant):
                return "counted"
            words = noun.value
            return f"{str(words).split()[-1]}{'s' if len(node.args) == 2 else ''}"
        case ast.Call() if isinstance(node.func, ast.Attribute) and (
            called_name(node)
            in ("rstrip", "strip", "lower", "removeprefix", "removesuffix", "as_posix", "get")
        ):
            return name_of(node.func.value)
        case ast.Call() if called_name(node) in (
            "quoted",
            "printable",
            "shown_value",
            "str",
            "repr",
            "sorted",
        ):
            return name_of(node.args[0]) if node.args else "value"
        case ast.Call() if called_name(node) in (
            "size",
            "percent",
            "duration",
            "number",
            "figure",
            "min",
            "max",
        ):
            return name_of(node.args[0]) if node.args else called_name(node)
        case ast.Call():
            return called_name(node) or "value"
        case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
            return key if key.isidentifier() else name_of(value)
        case ast.Subscript(value=value):
            return name_of(value)
        case ast.ListComp() | ast.GeneratorExp():
            return name_of(node.generators[0].iter)
        case ast.IfExp():
            names = [name_of(each) for each in (node.body, node.orelse)]
            return next((name for name in names if name != "value"), "detail")
        case ast.BoolOp():
            return name_of(node.values[0])
        case ast.UnaryOp():
            return name_of(node.operand)
        case ast.BinOp():
            return name_of(node.left) if name_of(node.left) != "value" else name_of(node.right)
    return "value"


def unique(wanted: str, taken: dict[str, str]) -> str:
    name = re.sub(r"\W", "_", wanted.strip("_")).lower() or "value"
    name = f"{name}_" if keyword.iskeyword(name) or not name.isidentifier() else name
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free

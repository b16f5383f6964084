"""Files with their texts as messages: replacements, imports and annotations."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.messages.conversion import Converter, Site
from tools.messages.flow import Flow
from tools.messages.sources import Module, given_in

IMPORT = "from loraloom.text.message import {}\n"


def convert(flow: Flow, module: Module) -> list[Site]:
    """Convert a file in place; return what is left."""
    converter = Converter(flow, module)
    sites = list(converter.sites())
    lines = [line.encode() for line in module.text.splitlines(keepends=True)]
    starts = [sum(map(len, lines[:number])) for number in range(len(lines) + 1)]
    content = module.text.encode()
    done: list[tuple[ast.expr, str]] = [(site.node, site.new) for site in sites if site.new]
    if done:
        done += [(name, f"{name.id}: {kind}") for name, kind in annotations(converter)]
    for node, new in sorted(done, key=lambda each: (each[0].lineno, each[0].col_offset), reverse=True):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        content = content[:begin] + new.encode() + content[end:]
    if done:
        module.path.write_text(with_imports(content.decode(), converter.names), encoding="utf-8")
    return [site for site in sites if not site.new]


def with_imports(text: str, names: set[str]) -> str:
    tree = ast.parse(text)
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "loraloom.text.message"
        for alias in node.names
    ]
    missing = sorted(names - set(imported))
    if not missing:
        return text
    last = max(
        (node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)),
        default=0,
    )
    if not last:
        last = (tree.body[0].end_lineno or 0) if tree.body else 0
    lines = text.splitlines(keepends=True)
    return "".join([*lines[:last], IMPORT.format(", ".join(missing)), *lines[last:]])


def annotations(converter: Converter) -> Iterator[tuple[ast.Name, str]]:
    """Names to annotate, because a type checker infers `Message` where other texts follow."""
    for node in ast.walk(converter.module.tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        target, value = node.targets[0], node.value
        scope = next(converter.module.scopes(node))
        given = [own for own, index in given_in(scope, target.id) if index is None]
        if min(own.lineno for own in given) < value.lineno or is_annotated(scope, target.id):
            continue
        if is_list(value):
            added = [call.args[0] for call in converter.flow.added_to(target)]
            has_messages = any(map(converter.is_message, (*given, *added)))
            if value in converter.flow.elements and has_messages and len(given) + len(added) > 1:
                yield target, "list[str]"
        elif value in converter.flow.marked and converter.is_message(value):
            assigned = [own for own in given if not is_added(converter.module, own)]
            unpacked = [own for own, index in given_in(scope, target.id) if index is not None]
            if unpacked or (len(assigned) > 1 and not all(map(converter.is_always_message, assigned))):
                yield target, "str"


def is_list(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return is_list(node.body) and is_list(node.orelse)
    return isinstance(node, ast.List | ast.ListComp)


def is_added(module: Module, node: ast.AST) -> bool:
    return isinstance(module.parents[node], ast.AugAssign)


def is_annotated(scope: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name
        for node in ast.walk(scope)
    )

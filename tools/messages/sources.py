"""The modules of the package as syntax trees, and what a scope says of its names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@dataclass
class Module:
    """A parsed file, with its parents, its imports and what it defines at its top."""

    path: Path
    name: str
    text: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, package: Path) -> Module:
        text = path.read_text(encoding="utf-8")
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        module = cls(path, name.removesuffix(".__init__"), text, ast.parse(text))
        for node in ast.walk(module.tree):
            for child in ast.iter_child_nodes(node):
                module.parents[child] = node
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    module.imports[alias.asname or alias.name] = (node.module, alias.name)
        return module

    def scopes(self, node: ast.AST) -> Iterator[Scope]:
        """The scopes around a node, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            if isinstance(
                node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
            ):
                yield node

    def is_annotation(self, node: ast.AST) -> bool:
        """Whether a node is part of a type, or of a docstring."""
        while node in self.parents:
            parent = self.parents[node]
            if isinstance(parent, ast.Expr) or node is getattr(parent, "annotation", None):
                return True
            if node is getattr(parent, "returns", None):
                return True
            if isinstance(parent, ast.stmt | ast.Call):
                return False
            node = parent
        return False


def called_name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of functions and classes inside it."""
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            todo += ast.iter_child_nodes(node)


def given_in(scope: ast.AST, name: str) -> Iterator[tuple[ast.AST, object]]:
    """The values that a scope assigns to a name, each with its index in a tuple, or `element`."""
    for node in own_nodes(scope):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _matched(target, value, name)
            case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
                if value is not None:
                    yield from _matched(target, value, name)
            case ast.NamedExpr(target=ast.Name(id=own), value=value) if own == name:
                yield value, None
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                for _, index in _matched(target, value, name):
                    yield value, "element" if index is None else ("element", index)


def _matched(target: ast.expr, value: ast.expr, name: str) -> Iterator[tuple[ast.AST, object]]:
    if isinstance(target, ast.Name) and target.id == name:
        yield value, None
    elif isinstance(target, ast.Tuple):
        for index, each in enumerate(target.elts):
            if isinstance(each, ast.Name) and each.id == name:
                yield value, index


def assigned_in(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    yield from (
        value for value, index in given_in(scope, name) if index is None and isinstance(value, ast.expr)
    )


def parameters(function: Scope) -> list[str]:
    if isinstance(function, ast.Module | ast.ClassDef):
        return []
    arguments = function.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def default_of(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[ast.expr]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(reversed(positional), reversed(arguments.defaults), strict=False)]
    pairs += [
        (a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None
    ]
    yield from (default for argument, default in pairs if argument.arg == name)


def returned(function: ast.AST) -> list[ast.expr]:
    return [
        node.value for node in own_nodes(function) if isinstance(node, ast.Return) and node.value is not None
    ]


def yielded(function: ast.AST) -> list[ast.expr]:
    return [
        node.value for node in own_nodes(function) if isinstance(node, ast.Yield) and node.value is not None
    ]

"""The modules of the package as syntax trees, and what a scope says of its names."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tools.syntax import parsed

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@dataclass
class Module:
    """A parsed file, with all nodes of its tree, their parents, and its imports."""

    path: Path
    name: str
    text: str
    tree: ast.Module
    nodes: list[ast.AST]
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, package: Path) -> Module:
        text = path.read_text(encoding="utf-8")
        name = ".".join((package.name, *path.relative_to(package).with_suffix("").parts))
        tree = parsed(path, text)
        module = cls(path, name.removesuffix(".__init__"), text, tree, list(ast.walk(tree)))
        for node in module.nodes:
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


@cache
def _all_given(scope: ast.AST) -> Mapping[str, list[tuple[ast.AST, object]]]:
    """What a scope assigns to its names; asked for so often that it is collected once for all of them."""
    found: dict[str, list[tuple[ast.AST, object]]] = defaultdict(list)
    for node in own_nodes(scope):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for name, index in _names(target):
                        found[name].append((value, index))
            case ast.AnnAssign(target=target, value=value) | ast.AugAssign(target=target, value=value):
                if value is not None:
                    for name, index in _names(target):
                        found[name].append((value, index))
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                found[name].append((value, None))
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                for name, index in _names(target):
                    found[name].append((value, "element" if index is None else ("element", index)))
    return found


def given_in(scope: ast.AST, name: str) -> Iterable[tuple[ast.AST, object]]:
    """The values that a scope assigns to a name, each with its index in a tuple, or `element`."""
    return _all_given(scope).get(name, ())


def _names(target: ast.expr) -> Iterator[tuple[str, int | None]]:
    if isinstance(target, ast.Name):
        yield target.id, None
    elif isinstance(target, ast.Tuple):
        for index, each in enumerate(target.elts):
            if isinstance(each, ast.Name):
                yield each.id, index


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


@cache
def returned(function: ast.AST) -> list[ast.expr]:
    return [
        node.value for node in own_nodes(function) if isinstance(node, ast.Return) and node.value is not None
    ]


@cache
def yielded(function: ast.AST) -> list[ast.expr]:
    return [
        node.value for node in own_nodes(function) if isinstance(node, ast.Yield) and node.value is not None
    ]

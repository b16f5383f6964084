"""The names of a script: what each is bound to, where, and in which function."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from loraloom.scripts.script_values import Parameter

Scope = tuple[str, ...]
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True)
class Binding:
    """A place where a name gets a value.

    Args:
        value: the expression that gives the value.
        index: position of the name in `a, b = f()`; None if the name gets the whole value.
        end: the line after which the name has this value.
    """

    value: ast.expr | Parameter
    index: int | None
    end: int


class Bindings:
    """All names of a script."""

    def __init__(self, body: list[ast.stmt]) -> None:
        self.imports: dict[str, str] = {}
        self.functions: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
        self.bases: dict[str, list[str]] = {}
        self.attributes: dict[str, dict[str, ast.expr]] = {}
        self.methods: dict[str, set[str]] = {}
        self.scope_of: dict[int, Scope] = {}
        self._bound: dict[tuple[Scope, str], list[Binding]] = defaultdict(list)
        for statement in body:
            self._visit(statement, ())

    def find(self, name: str, line: int, scope: Scope) -> Binding | None:
        """Return a name's binding at a line, in this function or else an enclosing one; None if unbound."""
        for depth in range(len(scope), -1, -1):
            bound = self._bound.get((scope[:depth], name), [])
            if not bound:
                continue
            # A function is called after the statements below it.
            earlier = [each for each in bound if each.end < line] if depth == len(scope) else bound
            if earlier:
                return earlier[-1]
            if scope[:depth]:
                return bound[0]
        return None

    def dotted(self, node: ast.expr) -> str:
        """Return an expression's dotted name with imports resolved: `b.c` for `f().b.c`, "" for `f()`."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ".".join([*reversed(parts)])
        return ".".join([self.imports.get(node.id, node.id), *reversed(parts)])

    def _visit(self, root: ast.AST, scope: Scope) -> None:
        """Record names, with a stack instead of recursion, because `elif` chains are deeply nested."""
        stack: list[tuple[ast.AST, Scope]] = [(root, scope)]
        while stack:
            node, inside = stack.pop()
            self.scope_of[id(node)] = inside
            self._record(node, inside)
            inner = self._scope_within(node, inside)
            stack += [(child, inner) for child in reversed([*ast.iter_child_nodes(node)])]

    def _scope_within(self, node: ast.AST, scope: Scope) -> Scope:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return (*scope, node.name)
        return (*scope, f"lambda:{node.lineno}") if isinstance(node, ast.Lambda) else scope

    def _record(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.partition(".")[0]
                self.imports[each.asname or first] = each.name if each.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module:
            self.imports |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, node.value, scope, node)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            self._bind(node.target, node.value, scope, node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self._add(node.target.id, Parameter(node.target.id), None, scope, node)
        elif isinstance(node, ast.For | ast.AsyncFor):
            for name in _names(node.target):
                self._add(name, Parameter(name, node.iter), None, scope, node.target)
        elif isinstance(node, ast.comprehension):
            for name in _names(node.target):
                self._add(name, Parameter(name, node.iter), None, scope, node.target, at=0)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr, scope, node.context_expr)
        self._record_definition(node, scope)

    def _record_definition(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions[node.name] = node
            self._add_parameters(node, (*scope, node.name))
        elif isinstance(node, ast.Lambda):
            self._add_parameters(node, (*scope, f"lambda:{node.lineno}"))
        elif isinstance(node, ast.ClassDef):
            self.bases[node.name] = [self.dotted(base) for base in node.bases]
            self.attributes[node.name] = dict(_attributes(node))
            self.methods[node.name] = {
                each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }

    def _add_parameters(self, node: Function, scope: Scope) -> None:
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults: dict[str, ast.expr] = dict(
            zip([each.arg for each in reversed(positional)], reversed(arguments.defaults), strict=False)
        )
        defaults |= {
            each.arg: default
            for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is not None
        }
        for each in (*positional, *arguments.kwonlyargs):
            value = defaults.get(each.arg, Parameter(each.arg))
            self._add(each.arg, value, None, scope, node, at=0)

    def _bind(self, target: ast.expr, value: ast.expr, scope: Scope, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self._add(target.id, value, None, scope, node)
        elif isinstance(target, ast.Tuple | ast.List):
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            for number, each in enumerate(target.elts):
                if len(parts) == len(target.elts):
                    self._bind(each, parts[number], scope, node)
                elif isinstance(each, ast.Name):
                    self._add(each.id, value, number, scope, node)

    def _add(
        self,
        name: str,
        value: ast.expr | Parameter,
        index: int | None,
        scope: Scope,
        node: ast.AST,
        at: int | None = None,
    ) -> None:
        end = getattr(node, "end_lineno", 0) if at is None else at
        self._bound[scope, name].append(Binding(value, index, end))


def _names(target: ast.expr) -> list[str]:
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def _attributes(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            names = [each for each in statement.targets if isinstance(each, ast.Name)]
            yield from ((each.id, statement.value) for each in names)
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            yield ast.unparse(statement.target), statement.value

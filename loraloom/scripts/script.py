"""The calls of a script: what is called, with which values, in the order of the lines."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from loraloom.scripts.bindings import Bindings, Scope
from loraloom.scripts.script_source import Source, read_source
from loraloom.scripts.script_values import (
    MAX_DEPTH,
    MISSING,
    Call,
    Item,
    Parameter,
    Symbol,
    Unread,
    combined,
    converted,
    is_read,
    shown,
)

_PARSED = ("parse_args", "parse_args_into_dataclasses", "parse_known_args", "Namespace")


class Script:
    """A script, and the values of its expressions as far as they can be read.

    Args:
        source: the script's statements.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.names = Bindings(source.body)
        self._calls: dict[int, Call] = {}

    @classmethod
    def of_file(cls, path: Path) -> Script:
        """Read a script or notebook.

        Raises:
            DataError: as in `read_source`.
        """
        return cls(read_source(path))

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """All calls, in the order of their lines."""
        found = [node for node in self.walk() if isinstance(node, ast.Call)]
        return tuple(self._call(node) for node in sorted(found, key=_place))

    def walk(self) -> Iterator[ast.AST]:
        """Iterate over all nodes of the syntax tree."""
        for statement in self.source.body:
            yield from ast.walk(statement)

    def calls_of(self, *functions: str) -> list[Call]:
        """Return the calls of functions or classes with these names; a subclass counts as its base."""
        return [call for call in self.calls if self.kind(call) in functions]

    def kind(self, call: Call) -> str:
        """Return the name of what is called; for a class defined in the script, that of its topmost base."""
        *_, last = self._classes(call)
        return last

    def defines(self, call: Call | None, *methods: str) -> bool:
        """Return whether the script defines one of these methods in the called class or in a base of it."""
        own = self._classes(call) if call else ()
        return any(not self.names.methods.get(name, set()).isdisjoint(methods) for name in own)

    def fields(self, call: Call) -> set[str]:
        """Return the attributes that the script defines in the called class, such as dataclass fields."""
        return {field for name in self._classes(call) for field in self.names.attributes.get(name, ())}

    def _classes(self, call: Call) -> Iterator[str]:
        """Yield the name of what is called and, for a class defined in the script, those of its bases."""
        name, seen = call.function, set[str]()
        yield name
        while name in self.names.bases and name not in seen and self.names.bases[name]:
            seen.add(name)
            name = self.names.bases[name][0].rpartition(".")[2]
            yield name

    def where(self, place: Call | ast.AST | None) -> str:
        """Return the location of a call or expression for messages; the file's name if it has no line."""
        node = place.node if isinstance(place, Call) else place
        line = getattr(node, "lineno", 0)
        return self.source.place(line) if line else self.source.name

    def value(self, call: Call | None, name: str, position: int | None = None) -> Any:
        """Return the value of an argument; MISSING if it is not given."""
        node = None if call is None else call.argument(name, position)
        return MISSING if node is None else self.read(node)

    def read(self, node: ast.expr, depth: int = 0) -> Any:
        """Return an expression's value: plain, or a `Call`, `Item`, `Parameter`, `Symbol` or `Unread`."""
        if depth > MAX_DEPTH:
            return Unread(shown(node))
        reader = _READERS.get(type(node))
        value = MISSING if reader is None else reader(self, node, depth + 1)
        return Unread(shown(node)) if value is MISSING else value

    def scope(self, node: ast.AST) -> Scope:
        """Return the names of the functions and classes around a node, outermost first."""
        return self.names.scope_of.get(id(node), ())

    def function_of(
        self, node: ast.expr | None
    ) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
        """Return the script's function that an expression refers to; None if it refers to anything else."""
        if isinstance(node, ast.Lambda):
            return node
        if isinstance(node, ast.Name):
            return self.names.functions.get(node.id)
        inner = node.args[0] if isinstance(node, ast.Call) and node.args else None  # partial(f, …)
        return self.names.functions.get(inner.id) if isinstance(inner, ast.Name) else None

    def _call(self, node: ast.Call) -> Call:
        if id(node) not in self._calls:
            keywords: dict[str, ast.expr] = {}
            is_complete = True
            for keyword in node.keywords:
                if keyword.arg is not None:
                    keywords[keyword.arg] = keyword.value
                elif isinstance(spread := self._mapping(keyword.value), dict):
                    keywords |= spread
                elif not self._is_tokens(keyword.value):
                    is_complete = False
            arguments = tuple(each for each in node.args if not isinstance(each, ast.Starred))
            name = self.names.dotted(node.func)
            self._calls[id(node)] = Call(name, node, self.scope(node), arguments, keywords, is_complete)
        return self._calls[id(node)]

    def _is_tokens(self, node: ast.expr) -> bool:
        """Return whether a value unpacked into a call (`**inputs`) is a tokenizer's output, not settings."""
        if isinstance(node, ast.Name):
            found = self.names.find(node.id, node.lineno, self.scope(node))
            node = found.value if found and isinstance(found.value, ast.expr) else node
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to":
            node = node.func.value
        name = self.names.dotted(node.func) if isinstance(node, ast.Call) else ""
        return "tok" in name.rpartition(".")[2].lower()

    def _mapping(self, node: ast.expr) -> dict[str, ast.expr] | None:
        """Return the items of a mapping unpacked into a call (`**settings`); None if they cannot be read."""
        if isinstance(node, ast.Name):
            found = self.names.find(node.id, node.lineno, self.scope(node))
            node = found.value if found and isinstance(found.value, ast.expr) else node
        if isinstance(node, ast.Call) and self.names.dotted(node.func) == "dict" and not node.args:
            return {each.arg: each.value for each in node.keywords if each.arg is not None}
        if not isinstance(node, ast.Dict):
            return None
        pairs = zip(node.keys, node.values, strict=True)
        return {k.value: v for k, v in pairs if isinstance(k, ast.Constant) and isinstance(k.value, str)}

    def _name(self, node: ast.Name, depth: int) -> Any:
        found = self.names.find(node.id, node.lineno, self.scope(node))
        if found is not None:
            value = found.value if isinstance(found.value, Parameter) else self.read(found.value, depth)
            return value if found.index is None else self._item_of(value, found.index)
        return Symbol(self.names.imports[node.id]) if node.id in self.names.imports else MISSING

    def _attribute(self, node: ast.Attribute, depth: int) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id in self.names.attributes:
            found = self.names.attributes[node.value.id].get(node.attr)
            return MISSING if found is None else self.read(found, depth)
        owner = self.read(node.value, depth)
        if isinstance(owner, Item):
            owner = owner.of  # `args, rest = parser.parse_known_args()`
        if isinstance(owner, Call):
            return self._attribute_of(owner, node, depth)
        return (
            Symbol(dotted) if isinstance(owner, Symbol) and (dotted := self.names.dotted(node)) else MISSING
        )

    def _attribute_of(self, owner: Call, node: ast.Attribute, depth: int) -> Any:
        if owner.function in self.names.attributes:
            given = owner.argument(node.attr) or self.names.attributes[owner.function].get(node.attr)
            return MISSING if given is None else self.read(given, depth)
        if owner.function not in _PARSED:
            return Item(owner, node.attr)
        if (given := owner.argument(node.attr)) is not None:
            return self.read(given, depth)
        default = self._option_default(node.attr)
        return MISSING if default is None else self.read(default, depth)

    def _option_default(self, name: str) -> ast.expr | None:
        """Return the default of an argparse option; None if it has none or does not exist."""
        for call in self.calls_of("add_argument"):
            flags = [each.value for each in call.arguments if isinstance(each, ast.Constant)]
            names = [str(flag).lstrip("-").replace("-", "_") for flag in flags]
            destination = call.argument("dest")
            if isinstance(destination, ast.Constant):
                names.append(str(destination.value))
            if name in names:
                return call.argument("default")
        return None

    def _subscript(self, node: ast.Subscript, depth: int) -> Any:
        owner, key = self.read(node.value, depth), self.read(node.slice, depth)
        return self._item_of(owner, key)

    def _item_of(self, owner: Any, key: Any) -> Any:
        if isinstance(owner, dict | list | tuple) and is_read(key) and not isinstance(key, list | dict | set):
            try:
                return owner[key]
            except (KeyError, IndexError, TypeError):
                return MISSING
        return MISSING if isinstance(owner, Unread) else Item(owner, key)

    def _dict(self, node: ast.Dict, depth: int) -> Any:
        made: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name = MISSING if key is None else self.read(key, depth)
            if not isinstance(name, str | int | float):
                return MISSING
            made[name] = self.read(value, depth)
        return made

    def _text(self, node: ast.JoinedStr, depth: int) -> Any:
        parts = [
            self.read(each.value, depth) if isinstance(each, ast.FormattedValue) else self.read(each, depth)
            for each in node.values
        ]
        plain = all(isinstance(each, str | int | float) for each in parts)
        return "".join(map(str, parts)) if plain else MISSING

    def _result(self, node: ast.Call, depth: int) -> Any:
        call = self._call(node)
        arguments = [self.read(each, depth) for each in call.arguments] if "." not in call.name else []
        known = converted(call.name, arguments)
        if known is not None:
            return known
        if call.name == "dict" and not call.arguments:
            return {key: self.read(each, depth) for key, each in call.keywords.items()}
        if call.name in ("os.path.join", "Path", "pathlib.Path"):
            parts = [self.read(each, depth) for each in call.arguments]
            return "/".join(parts) if parts and all(isinstance(each, str) for each in parts) else MISSING
        return call

    def _operation(self, node: ast.BinOp, depth: int) -> Any:
        left, right = self.read(node.left, depth), self.read(node.right, depth)
        if isinstance(node.op, ast.Div) and isinstance(left, str) and isinstance(right, str):
            return f"{left}/{right}"  # of two paths
        known = combined(node.op, left, right)
        return MISSING if known is None else known

    def _sign(self, node: ast.UnaryOp, depth: int) -> Any:
        value = self.read(node.operand, depth)
        if isinstance(node.op, ast.USub) and isinstance(value, int | float):
            return -value
        return not value if isinstance(node.op, ast.Not) and is_read(value) else MISSING

    def _list(self, node: ast.List | ast.Tuple | ast.Set, depth: int) -> Any:
        return [self.read(each, depth) for each in node.elts]


_READERS: dict[type[ast.AST], Callable[[Script, Any, int], Any]] = {
    ast.Constant: lambda script, node, depth: node.value,
    ast.Name: Script._name,
    ast.Attribute: Script._attribute,
    ast.Subscript: Script._subscript,
    ast.Dict: Script._dict,
    ast.List: Script._list,
    ast.Tuple: Script._list,
    ast.Set: Script._list,
    ast.JoinedStr: Script._text,
    ast.Call: Script._result,
    ast.BinOp: Script._operation,
    ast.UnaryOp: Script._sign,
}


def _place(node: ast.Call) -> tuple[int, int]:
    """Return the line and end column of a call as its sort key, so that `a()` precedes `a().b()`."""
    return (node.lineno, getattr(node, "end_col_offset", 0) or 0)

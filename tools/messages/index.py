"""An index of the package: what a name, a call, a parameter or a field may stand for."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.messages.sources import Function, Module, called_name, default_of, given_in, parameters

PACKAGE = Path(__file__).resolve().parents[2] / "loraloom"
# The mechanism itself, what is compiled rather than said, and what becomes text for the model.
EXCLUDED = (
    "data/files/data_names.py",
    "data/layouts/labelled.py",
    "data/sources/source.py",
    "text/",
    "errors.py",
    "starter/",
    "kernels/",
)


# Fields, properties and methods that give lists of texts for people.
LIST_FIELDS = {"notes", "notices", "cautions", "sentences"}
SEVERAL = 4  # methods of one name that a call may mean
OF_BUILTINS = {*dir(str), *dir(list), *dir(dict), *dir(set), "read", "write", "open", "close"}


class Index:
    """All definitions, calls and assignments of a package, by name.

    Args:
        package: its folder.
    """

    def __init__(self, package: Path = PACKAGE) -> None:
        paths = sorted(package.rglob("*.py"))
        excluded = tuple(str(package / each) for each in EXCLUDED)
        self.modules = [Module.read(path, package) for path in paths if not str(path).startswith(excluded)]
        self.by_name = {module.name: module for module in self.modules}
        self.module_of = {node: module for module in self.modules for node in module.nodes}
        self.functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = defaultdict(list)
        self.classes: dict[str, list[ast.ClassDef]] = defaultdict(list)
        self.calls: dict[str, list[ast.Call]] = defaultdict(list)
        self.attributes: dict[str, list[ast.expr]] = defaultdict(list)
        self._given_to_fields: dict[str, list[ast.expr]] = {}
        self._added: dict[ast.AST, dict[str, list[ast.Call]]] = {}
        self._index()

    def _index(self) -> None:
        for node in self.module_of:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions[node.name].append(node)
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name].append(node)
            elif isinstance(node, ast.Call):
                self.calls[called_name(node)].append(node)
            elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) and node.value is not None:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Attribute):
                        self.attributes[target.attr].append(node.value)

    def has_init(self, name: str) -> bool:
        return any(
            isinstance(each, ast.FunctionDef) and each.name == "__init__"
            for own in self.classes[name]
            for each in own.body
        )

    def given_to_field(self, name: str) -> list[ast.expr]:
        if name not in self._given_to_fields:
            self._given_to_fields[name] = list(self._find_given_to_field(name))
        return self._given_to_fields[name]

    def _find_given_to_field(self, name: str) -> Iterator[ast.expr]:
        yield from self.attributes[name]
        for classes in self.classes.values():
            for own in classes:
                fields = [each for each in own.body if isinstance(each, ast.AnnAssign)]
                names = [each.target.id for each in fields if isinstance(each.target, ast.Name)]
                if name not in names:
                    continue
                for call in self.calls[own.name]:
                    if len(call.args) > names.index(name) and not self.has_init(own.name):
                        yield call.args[names.index(name)]
                    yield from (each.value for each in call.keywords if each.arg == name)

    def called(self, call: ast.Call) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
        """The functions of the package that a call may mean; of methods, those with its name."""
        module, name = self.module_of[call], called_name(call)
        if isinstance(call.func, ast.Name):
            where, own = module.imports.get(name, (module.name, name))
            for _ in range(3):  # through an __init__.py that re-exports it
                target = self.by_name.get(where)
                if target is None:
                    return []
                found = [each for each in self.functions[own] if self.module_of[each] is target]
                if found or own not in target.imports:
                    return found
                where, own = target.imports[own]
            return []
        found = self.functions.get(name, [])
        if isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "self":
            own = next((each for each in module.scopes(call) if isinstance(each, ast.ClassDef)), None)
            found = [each for each in found if module.parents.get(each) is own] or found
        is_known = len(found) <= SEVERAL or name in LIST_FIELDS
        return found if is_known and name not in OF_BUILTINS else []

    def assigned(self, name: ast.Name) -> Iterator[tuple[ast.AST, object]]:
        """What a name was given: a value and None, or an index, or `element` of what is iterated."""
        module = self.module_of[name]
        for scope in module.scopes(name):
            if isinstance(scope, ast.ClassDef):
                continue
            found = list(given_in(scope, name.id))
            if found:
                yield from found
                return
            if not isinstance(scope, ast.Module) and name.id in parameters(scope):
                yield from self._given_to_parameter(scope, name.id)
                return
        where, own = module.imports.get(name.id, ("", ""))
        if where in self.by_name:
            yield from given_in(self.by_name[where].tree, own)

    def _given_to_parameter(self, scope: Function, name: str) -> Iterator[tuple[ast.AST, None]]:
        if isinstance(scope, ast.Lambda):
            return
        names = [each for each in parameters(scope) if each not in ("self", "cls")]
        for call in self.calls[scope.name]:
            if scope not in self.called(call):
                continue
            position = names.index(name)
            if position < len(call.args) and not any(isinstance(a, ast.Starred) for a in call.args):
                yield call.args[position], None
            yield from ((each.value, None) for each in call.keywords if each.arg == name)
        for default in default_of(scope, name):
            yield default, None

    def added_to(self, name: ast.Name) -> Iterator[ast.Call]:
        module = self.module_of[name]
        scope = next(
            (each for each in module.scopes(name) if not isinstance(each, ast.ClassDef)), module.tree
        )
        if scope not in self._added:
            self._added[scope] = defaultdict(list)
            for node in ast.walk(scope):
                if isinstance(node, ast.Call) and called_name(node) in ("append", "extend") and node.args:
                    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
                    if isinstance(owner, ast.Name):
                        self._added[scope][owner.id].append(node)
        yield from self._added[scope].get(name.id, ())

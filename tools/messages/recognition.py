"""Which expressions are text rather than messages, and which will be messages once all is converted."""

from __future__ import annotations

import ast

from tools.messages.flow import DATA_FIELDS, MESSAGES, PASSING, TEXT_FIELDS, Flow
from tools.messages.index import LIST_FIELDS
from tools.messages.prose import has_words, is_prose
from tools.messages.sources import Module, called_name, returned, yielded


class Recognizer:
    """Judges the expressions of a module."""

    def __init__(self, flow: Flow, module: Module) -> None:
        self.flow, self.module = flow, module

    def is_join(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Call)
            and called_name(node) == "join"
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Constant)
            and isinstance(node.func.value.value, str)
            and len(node.args) == 1
        )

    def is_convertible(self, node: ast.AST) -> bool:
        """Whether an expression is marked and is, as it stands, text rather than a message."""
        if self.module.is_annotation(node) or self.is_in_message(node):
            return False
        weak = self.flow.marked.get(node, True)
        if isinstance(node, ast.Constant):
            return isinstance(node.value, str) and is_prose(node.value, weak=weak)
        if isinstance(node, ast.JoinedStr):
            return has_words(node) or any(
                isinstance(each, ast.FormattedValue) and self.is_message(each.value) for each in node.values
            )
        return self.is_join(node) and self.is_message(node)

    def is_in_message(self, node: ast.AST) -> bool:
        """Whether it is a template already, or an argument of a function that makes messages."""
        parent = self.module.parents.get(node)
        return (
            isinstance(parent, ast.Call)
            and called_name(parent) in (*MESSAGES, "counted", "quoted")
            and node in parent.args
            and not (called_name(parent) == "joined" and node is not parent.args[0])
        )

    def is_message(self, node: ast.AST, seen: frozenset[ast.AST] = frozenset()) -> bool:
        """Whether the value of an expression may be a message, once all is converted."""
        if node in seen or len(seen) > 40:
            return False
        seen |= {node}
        match node:
            case ast.Constant():
                return isinstance(node.value, str) and is_prose(
                    node.value, weak=self.flow.marked.get(node, True)
                )
            case ast.JoinedStr():
                return node in self.flow.marked and (
                    has_words(node)
                    or any(
                        self.is_message(e.value, seen)
                        for e in node.values
                        if isinstance(e, ast.FormattedValue)
                    )
                )
            case ast.IfExp():
                return self.is_message(node.body, seen) or self.is_message(node.orelse, seen)
            case ast.BoolOp():
                return any(self.is_message(each, seen) for each in node.values)
            case ast.BinOp(op=ast.Add()):
                return self.is_message(node.left, seen) or self.is_message(node.right, seen)
            case ast.NamedExpr() | ast.Starred():
                return self.is_message(node.value, seen)
            case ast.List() | ast.Tuple() | ast.Set():
                return any(self.is_message(each, seen) for each in node.elts)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return self.is_message(node.elt, seen)
            case ast.Attribute():
                return node in self.flow.marked and self._is_message_attribute(node, seen)
            case ast.Name():
                given = [value for value, _ in self.flow.assigned(node)]
                given += [call.args[0] for call in self.flow.added_to(node)]
                return any(self.is_message(value, seen) for value in given)
            case ast.Subscript(value=ast.Name() as table):
                dicts = [value for value, _ in self.flow.assigned(table) if isinstance(value, ast.Dict)]
                return any(self.is_message(each, seen) for own in dicts for each in own.values)
            case ast.Call():
                return self._is_message_call(node, seen)
        return False

    def is_always_message(self, node: ast.AST) -> bool:
        """Whether an expression is seen to be a message in any case."""
        if isinstance(node, ast.IfExp):
            return self.is_always_message(node.body) and self.is_always_message(node.orelse)
        return isinstance(node, ast.Constant | ast.JoinedStr) and self.is_message(node)

    def _is_message_attribute(self, node: ast.Attribute, seen: frozenset[ast.AST]) -> bool:
        if node.attr in TEXT_FIELDS | LIST_FIELDS:
            return True
        if node.attr in DATA_FIELDS:
            return False
        if any(self.is_message(value, seen) for value in self.flow.given_to_field(node.attr)):
            return True
        functions = self.flow.functions.get(node.attr, [])
        return any(self.is_message(value, seen) for each in functions for value in returned(each))

    def _is_message_call(self, node: ast.Call, seen: frozenset[ast.AST]) -> bool:
        name = called_name(node)
        if name in MESSAGES:
            return True
        if name in PASSING or name == "join":
            return any(self.is_message(each, seen) for each in node.args)
        if name in ("rstrip", "strip", "capitalize") and isinstance(node.func, ast.Attribute):
            return self.is_message(node.func.value, seen)
        functions = self.flow.called(node)
        return any(
            self.is_message(value, seen) for each in functions for value in (*returned(each), *yielded(each))
        )

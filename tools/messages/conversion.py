"""Expressions as messages: their new source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.messages.flow import Flow
from tools.messages.names import name_of, unique
from tools.messages.prose import is_prose
from tools.messages.recognition import Recognizer
from tools.messages.sentences import as_choice, chosen, escaped, flattened, is_glued, literals
from tools.messages.sources import Module, called_name

SPEC = re.compile(r"[+,]{0,2}(?:\.\d{1,2})?[defg%]?")
WIDTH = 110
LONG_SENTENCE = 70  # characters; a longer one is not repeated for the sake of one word


class Unsuitable(Exception):
    """An expression that stays as it is, and why."""


@dataclass
class Site:
    """One expression that people read and that is no message.

    Args:
        node: the expression.
        new: its source as a message; "" if it cannot be converted.
        why: why not.
    """

    module: Module
    node: ast.expr
    new: str = ""
    why: str = ""

    @property
    def where(self) -> str:
        return f"{self.module.path}:{self.node.lineno}"


class Converter(Recognizer):
    """Writes the expressions of a module as messages."""

    def __init__(self, flow: Flow, module: Module) -> None:
        super().__init__(flow, module)
        self.names: set[str] = set()  # to import
        self.indent = 0

    def sites(self) -> Iterator[Site]:
        """Every expression of the module that people read and that is no message yet."""
        inside = {
            child
            for node in self.module.nodes
            if isinstance(node, ast.JoinedStr) or (self.is_join(node) and node in self.flow.marked)
            for child in ast.walk(node)
            if child is not node
        }
        for node in self.module.nodes:
            if node in inside or node not in self.flow.marked or not self.is_convertible(node):
                continue
            assert isinstance(node, ast.expr)
            line = self.module.text.splitlines()[node.lineno - 1]
            self.indent = len(line) - len(line.lstrip())
            site = Site(self.module, node)
            try:
                if "#" in re.sub(r"(['\"]).*?\1", "", ast.get_source_segment(self.module.text, node) or ""):
                    raise Unsuitable("a comment is inside of it")
                site.new = self.message(node)
            except Unsuitable as error:
                site.why = str(error)
            yield site

    def message(self, node: ast.expr) -> str:
        """Return the source of an expression as a message, or with messages in it."""
        match node:
            case ast.Constant(value=str(text)) if is_prose(text, weak=self.flow.marked.get(node, True)):
                self.names.add("Message")
                return f"Message({self._template(escaped(text))})"
            case ast.JoinedStr() if self.is_convertible(node):
                return self._sentence(node)
            case ast.IfExp():
                test = ast.unparse(node.test)
                return f"({self.message(node.body)} if {test} else {self.message(node.orelse)})"
            case ast.BoolOp():
                word = " and " if isinstance(node.op, ast.And) else " or "
                return f"({word.join(self.message(each) for each in node.values)})"
            case ast.Call() if self.is_join(node) and self.is_message(node):
                self.names.add("joined")
                assert isinstance(node.func, ast.Attribute)
                return f"joined({ast.unparse(node.func.value)}, {self._elements(node.args[0])})"
        return ast.unparse(node)

    def _elements(self, node: ast.expr) -> str:
        if isinstance(node, ast.List | ast.Tuple):
            inside = ", ".join(
                f"*{self._elements(each.value)}" if isinstance(each, ast.Starred) else self.message(each)
                for each in node.elts
            )
            return f"[{inside}]"
        if isinstance(node, ast.ListComp | ast.GeneratorExp):
            loops = ast.unparse(ast.GeneratorExp(ast.Name("x"), node.generators))[2:-1].removeprefix(" ")
            return f"({self.message(node.elt)} {loops})"
        return ast.unparse(node)

    def _template(self, template: str) -> str:
        return literals(template, WIDTH - self.indent - 16)

    def _sentence(self, node: ast.JoinedStr) -> str:
        """An f-string, of whose values some may be conditions between parts of the sentence."""
        parts = list(flattened(node))
        size = sum(len(part) for part in parts if isinstance(part, str))
        tests: dict[str, ast.expr] = {}
        for number, part in enumerate(parts):
            if isinstance(part, str) or (choice := as_choice(part)) is None:
                continue
            if is_glued(parts, number, choice) or (size <= LONG_SENTENCE and not tests):
                tests.setdefault(ast.unparse(choice.test), choice.test)
        return self._variants(parts, list(tests)[:2])

    def _variants(self, parts: Sequence[str | ast.FormattedValue], tests: Sequence[str]) -> str:
        if not tests:
            return self._filled(parts)
        yes, no = (self._variants(list(chosen(parts, tests[0], way)), tests[1:]) for way in (True, False))
        return f"({yes} if {tests[0]} else {no})"

    def _filled(self, parts: Sequence[str | ast.FormattedValue]) -> str:
        template, values = "", {}
        for part in parts:
            if isinstance(part, str):
                template += escaped(part)
                continue
            source, spec, wanted = self._value(part)
            name = next((known for known, own in values.items() if own == source), "")
            if not name:
                name = unique(wanted, values)
                values[name] = source
            template += f"{{{name}:{spec}}}" if spec else f"{{{name}}}"
        self.names.add("Message")
        given = "".join(f", {name}={source}" for name, source in values.items())
        return f"Message({self._template(template)}{given})"

    def _value(self, part: ast.FormattedValue) -> tuple[str, str, str]:
        """The source of a value, its specification in the template, and a name for it."""
        value, wanted = part.value, name_of(part.value)
        spec = ast.unparse(part.format_spec)[2:-1] if part.format_spec is not None else ""
        if part.conversion == ord("r") and not spec:
            return f"repr({ast.unparse(value)})", "", wanted
        if spec and (part.conversion != -1 or not SPEC.fullmatch(spec)):
            return ast.unparse(ast.JoinedStr([part])), "", wanted
        if (
            not spec
            and isinstance(value, ast.Call)
            and called_name(value) == "rstrip"
            and isinstance(value.func, ast.Attribute)
            and [getattr(each, "value", None) for each in value.args] == ["."]
        ):
            return self.message(value.func.value), "clause", name_of(value.func.value)
        return self.message(value), spec, wanted


def all_sites(flow: Flow) -> list[Site]:
    return [site for module in flow.modules for site in Converter(flow, module).sites()]

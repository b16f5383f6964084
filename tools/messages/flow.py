"""Which expressions of the package become text for people: from where texts are shown back to literals.

Texts are shown by arguments such as `Problem(what, fix=…)`, `Finding(…, message)`, `Note(message=…)` or
`display.say(…)`, and by the templates of pages. From there the analysis goes back: to what a local name was
assigned or appended, to what a function returns or yields, to the arguments that a parameter is given, to
constants of a module, to fields with the names of texts (`reason`, `fix`, …). It runs nothing, and knows
names, not types.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tools.messages.index import LIST_FIELDS, PACKAGE, Index
from tools.messages.prose import is_prose, is_text
from tools.messages.sources import (
    assigned_in,
    called_name,
    returned,
    yielded,
)

# Class or function -> its arguments that people read, by position and by keyword.
SHOWN: dict[str, tuple[dict[int, str], set[str]]] = {
    "Problem": ({0: "what", 2: "found", 3: "allowed", 4: "fix"}, {"what", "found", "allowed", "fix"}),
    "Finding": ({3: "message", 4: "fix"}, {"message", "fix"}),
    "Note": ({0: "what"}, {"what", "message"}),
    "WarningNote": ({}, {"message"}),
    "Choice": ({0: "value", 1: "reason"}, {"value", "reason"}),
    "Resume": ({}, {"reason"}),
    "ExperimentEnd": ({}, {"reason"}),
    "AdapterExport": ({}, {"reason"}),
    "FileChange": ({}, {"what"}),
    "CheckpointDamage": ({}, {"problem"}),
    "Recommendation": ({}, {"sentence"}),
    "Interrupted": ({1: "message"}, {"message"}),
    "fail": ({0: "reason"}, {"reason"}),
    "BadParameter": ({0: "message"}, {"message"}),
    "SettingError": ({0: "message"}, {"message"}),
    "rendered": ({0: "message"}, set()),
    "say": ({0: "message"}, {"message"}),
}
ERROR = ({0: "what"}, {"what", "found", "allowed", "fix"})
# Arguments that are as often a value as a sentence: a literal must have several words.
WEAK = {"found", "allowed", "value"}
TEXT_FIELDS = {"reason", "message", "fix", "why", "what", "sentence", "problem", "hint", "remedy", "advice"}
# Fields that hold what is named in a text, such as a row of data.
DATA_FIELDS = {"path", "where", "line", "value", "text", "source", "name", "folder", "file", "key", "command"}
DATA_FIELDS |= {"label", "prefix"}
# Functions of text/ that return messages.
MESSAGES = {"Message", "marked", "filled", "counted", "joined", "percent", "shown_value", "counting"}
MESSAGES |= {"as_message"}
PASSING = {"list", "tuple", "sorted", "reversed", "filter", "chain", "set", "fromkeys"}


class Flow(Index):
    """Marks the expressions that people read.

    Args:
        package: its folder.

    Attributes:
        marked: expression -> whether a literal there must have several words to be one for people.
    """

    def __init__(self, package: Path = PACKAGE) -> None:
        super().__init__(package)
        self.marked: dict[ast.AST, bool] = {}
        self.elements: set[ast.AST] = set()
        self._followed: set[tuple[ast.AST, object]] = set()
        self.errors = self._error_names()
        for node in list(self.module_of):
            if isinstance(node, ast.Call):
                self._start(node)
        for name in shown_in_pages(package):
            for function in self.functions[name]:
                for value in returned(function):
                    self.mark(value, weak=True)
                    self.mark_elements(value)
            for value in self.given_to_field(name):
                self.mark(value, weak=True)
                self.mark_elements(value)

    def _error_names(self) -> set[str]:
        names = {"LoRALoomError", "RecipeError", "DataError", "ModelError", "TargetError", "AdapterError"}
        names |= {"BankError", "RunError", "CheckpointError", "CheckError", "TrainingError"}
        bases = {name: {ast.unparse(b) for c in own for b in c.bases} for name, own in self.classes.items()}
        while more := {name for name, own in bases.items() if own & names} - names:
            names |= more
        return names - {name for name in self.classes if self.has_init(name)}

    def _start(self, call: ast.Call) -> None:
        """Mark the arguments of a call that shows them."""
        name = called_name(call)
        positions, keywords = ERROR if name in self.errors else SHOWN.get(name, ({}, set()))
        for position, argument in enumerate(call.args):
            if position in positions:
                self.mark(argument, weak=positions[position] in WEAK)
        for each in call.keywords:
            fields = {"message", "fix", "reason", "what"} if name == "replace" else set()
            if each.arg in keywords or each.arg in fields or each.arg == "fix":
                self.mark(each.value, weak=each.arg in WEAK)
        if name == "print_table" and call.args and isinstance(call.args[0], ast.Tuple):
            for each in call.args[0].elts:
                self.mark(each, weak=False)
        if name in ("Message", "counting"):
            for each in call.keywords:
                self.mark(each.value, weak=True)
        elif name == "joined" and len(call.args) == 2:
            self.mark_elements(call.args[1])

    def mark(self, node: ast.expr | None, *, weak: bool) -> None:
        """Mark an expression whose value people read, and what it comes from."""
        if node is None or (node in self.marked and (weak or not self.marked[node])):
            return
        self.marked[node] = weak
        match node:
            case ast.JoinedStr():
                for each in node.values:
                    if isinstance(each, ast.FormattedValue):
                        self._mark_value(each.value)
            case ast.IfExp():
                branches = (node.body, node.orelse)  # a word in place of a sentence is one for people
                weak = weak and not any(
                    is_text(each) and is_prose(each.value, weak=True) for each in branches
                )
                self.mark(node.body, weak=weak)
                self.mark(node.orelse, weak=weak)
            case ast.BoolOp():
                for each in node.values:
                    self.mark(each, weak=weak)
            case ast.BinOp(op=ast.Add()):
                self.mark(node.left, weak=weak)
                self.mark(node.right, weak=weak)
            case ast.NamedExpr():
                self.mark(node.value, weak=weak)
            case ast.Name():
                for value, index in self.assigned(node):
                    self._mark_assigned(value, index, weak=weak)
            case ast.Subscript():
                self._mark_dict(node.value)
            case ast.Attribute():
                self._mark_attribute(node, weak=weak)
            case ast.Call():
                self._mark_call(node, weak=weak)

    def _mark_value(self, value: ast.expr) -> None:
        """Mark a value in a sentence: of a choice between literals, each is a part of the sentence."""
        self.mark(value, weak=not isinstance(value, ast.IfExp))

    def _mark_assigned(self, value: ast.AST, index: object, *, weak: bool) -> None:
        if (value, index) in self._followed:
            return
        if isinstance(index, int):
            self._followed.add((value, index))
        if index == "element":
            self.mark_elements(value)
        elif isinstance(index, tuple):
            self._mark_column(value, index[1])
        elif isinstance(value, ast.Subscript) and isinstance(index, int):
            for table, _ in self.assigned(value.value) if isinstance(value.value, ast.Name) else ():
                if isinstance(table, ast.Dict):
                    self._mark_column(ast.Tuple(table.values), index)
        elif index is None:
            self.mark(value, weak=weak)  # type: ignore[arg-type]
        elif isinstance(value, ast.Tuple) and isinstance(index, int) and index < len(value.elts):
            self.mark(value.elts[index], weak=weak)
        elif isinstance(value, ast.IfExp):
            self._mark_assigned(value.body, index, weak=weak)
            self._mark_assigned(value.orelse, index, weak=weak)
        elif isinstance(value, ast.Call):
            for function in self.called(value):
                for each in returned(function):
                    self._mark_assigned(each, index, weak=weak)

    def _mark_column(self, table: ast.AST, index: int) -> None:
        """Mark a column of a table of literals; its single words are for people if others are several."""
        if isinstance(table, ast.Call) and called_name(table) == "items" and index == 1:
            self._mark_dict(table.func.value)  # type: ignore[attr-defined]
        elif isinstance(table, ast.Name):
            for value, place in self.assigned(table):
                if place is None:
                    self._mark_column(value, index)
        elif isinstance(table, ast.Tuple | ast.List):
            rows = [each.elts for each in table.elts if isinstance(each, ast.Tuple)]
            cells = [each[index] for each in rows if index < len(each)]
            weak = not any(is_text(each) and is_prose(each.value, weak=True) for each in cells)
            for each in cells:
                self.mark(each, weak=weak)

    def _mark_call(self, node: ast.Call, *, weak: bool) -> None:
        name = called_name(node)
        if name == "join" and isinstance(node.func, ast.Attribute) and node.args:
            self.mark_elements(node.args[0])
        elif name in ("strip", "rstrip", "lstrip", "capitalize") and isinstance(node.func, ast.Attribute):
            self.mark(node.func.value, weak=weak)
        elif name == "get" and isinstance(node.func, ast.Attribute):
            self._mark_dict(node.func.value)
            for each in node.args[1:]:
                self.mark(each, weak=weak)
        elif name in PASSING:
            self.mark_elements(node)
        else:
            for function in self.called(node):
                for each in returned(function):
                    self.mark(each, weak=weak)

    def _mark_attribute(self, node: ast.Attribute, *, weak: bool) -> None:
        if node.attr not in DATA_FIELDS:
            for value in self.given_to_field(node.attr):
                self.mark(value, weak=weak or node.attr not in TEXT_FIELDS or node.attr == "what")
        if node.attr.isupper():
            for own in self.classes.values():
                for each in own:
                    for value in assigned_in(each, node.attr):
                        self.mark(value, weak=weak)
        for function in self.functions.get(node.attr, []):
            if any(
                getattr(each, "id", "") in ("property", "cached_property") for each in function.decorator_list
            ):
                for value in returned(function):
                    self.mark(value, weak=True)

    def mark_elements(self, node: ast.AST | None) -> None:
        """Mark the elements of an expression that is a list, or anything else that is iterated."""
        if node is None or node in self.elements:
            return
        self.elements.add(node)
        match node:
            case ast.List() | ast.Tuple() | ast.Set():
                for each in node.elts:
                    if isinstance(each, ast.Starred):
                        self.mark_elements(each.value)
                    else:
                        self.mark(each, weak=True)
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                self.mark(node.elt, weak=True)
            case ast.BinOp() | ast.IfExp() | ast.BoolOp():
                for child in ast.iter_child_nodes(node):
                    self.mark_elements(child)
            case ast.Attribute(attr=name) if name in LIST_FIELDS:
                for value in self.given_to_field(name):
                    self.mark_elements(value)
                for function in self.functions[name]:
                    for value in returned(function):
                        self.mark_elements(value)
                for call in (*self.calls["append"], *self.calls["extend"]):
                    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
                    if isinstance(owner, ast.Attribute) and owner.attr == name and call.args:
                        self._mark_added(call)
            case ast.Call():
                if called_name(node) in PASSING:
                    for each in node.args:
                        self.mark_elements(each)
                for function in self.called(node):
                    for each in returned(function):
                        self.mark_elements(each)
                    for each in yielded(function):
                        self.mark(each, weak=True)
            case ast.Name():
                for value, index in self.assigned(node):
                    if index is None:
                        self.mark_elements(value)
                for call in self.added_to(node):
                    self._mark_added(call)

    def _mark_added(self, call: ast.Call) -> None:
        if called_name(call) == "append":
            self.mark(call.args[0], weak=True)
        else:
            self.mark_elements(call.args[0])

    def _mark_dict(self, node: ast.expr) -> None:
        values = [value for value, _ in self.assigned(node)] if isinstance(node, ast.Name) else [node]
        for value in values:
            if isinstance(value, ast.Dict):
                for each in value.values:
                    if isinstance(each, ast.Tuple):
                        continue
                    self.mark(each, weak=True)


def shown_in_pages(package: Path) -> set[str]:
    """The fields and properties that a template of a page shows as prose: `{{ test.reason|prose }}`."""
    pages = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.j2"))
    return set(re.findall(r"\.(\w+)(?:\[\w+\])?\|prose", pages))

"""Values of a script's expressions, as far as they can be read without running it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from loraloom.text.visible import printable


@dataclass(frozen=True)
class Unread:
    """A value that can be determined only by running the script.

    Args:
        text: the expression, shortened.
    """

    text: str


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function, a loop's variable, or another name that is bound to many values.

    Args:
        name: name of the parameter or variable.
        source: the iterable, for a loop's variable; otherwise None.
    """

    name: str
    source: ast.expr | None = None


@dataclass(frozen=True)
class Item:
    """An item or attribute of a value that is known only when the script runs: `dataset["train"]`."""

    of: Any
    key: Any


@dataclass(frozen=True)
class Symbol:
    """A dotted name from a library: `torch.float16`, `TaskType.SEQ_2_SEQ_LM`."""

    name: str

    @property
    def last(self) -> str:
        """The name after the last dot."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, eq=False)
class Call:
    """A call in a script.

    Args:
        name: the dotted name of what is called, with imports resolved: `transformers.Seq2SeqTrainer`.
        node: the call.
        scope: names of the functions and classes around the call, outermost first.
        arguments: positional arguments.
        keywords: keyword arguments by name, including those of `**settings` that can be read.
        is_complete: whether all keyword arguments could be read.
    """

    name: str
    node: ast.Call
    scope: tuple[str, ...]
    arguments: tuple[ast.expr, ...]
    keywords: Mapping[str, ast.expr] = field(default_factory=dict)
    is_complete: bool = True

    @property
    def function(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """The part before the function, such as `AutoModelForSeq2SeqLM` for its `from_pretrained`."""
        return self.name.rpartition(".")[0].rpartition(".")[2]

    @property
    def line(self) -> int:
        """The line where the call begins."""
        return self.node.lineno

    @property
    def receiver(self) -> ast.expr | None:
        """The expression that a method is called on; None for a function."""
        return self.node.func.value if isinstance(self.node.func, ast.Attribute) else None

    def argument(self, name: str, position: int | None = None) -> ast.expr | None:
        """Return an argument by name or position; None if it is not given."""
        if name in self.keywords:
            return self.keywords[name]
        if position is not None and position < len(self.arguments):
            return self.arguments[position]
        return None


MISSING = Unread("")
MAX_DEPTH = 60
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_CONVERSIONS: dict[str, Callable[..., Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "set": set,
    "len": len,
    "max": max,
    "min": min,
}
_MAX_TEXT = 100_000


def is_read(value: Any) -> bool:
    """Return whether a value is plain: text, a number, a truth value, None, or a list or mapping of these."""
    if isinstance(value, list | tuple | set):
        return all(map(is_read, value))
    if isinstance(value, dict):
        return all(map(is_read, value.values()))
    return value is None or isinstance(value, str | int | float)


def combined(operator: ast.operator, left: Any, right: Any) -> Any:
    """Apply an operator to two values that were read; None if that fails or the result could be huge."""
    compute = _BINARY.get(type(operator))
    plain = (int, float, str, list)
    if compute is None or not (isinstance(left, plain) and isinstance(right, plain)):
        return None
    if isinstance(operator, ast.Mult) and not (
        isinstance(left, int | float) and isinstance(right, int | float)
    ):
        return None
    if isinstance(operator, ast.Mod) and isinstance(left, str):
        return None  # `"%1000000d" % 1`
    try:
        result = compute(left, right)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return None if isinstance(result, str) and len(result) > _MAX_TEXT else result


def converted(function: str, arguments: list[Any]) -> Any:
    """Apply `int`, `str`, `list` and the like to values that were read; None if that is not possible."""
    if function not in _CONVERSIONS or not all(map(is_read, arguments)):
        return None
    try:
        return _CONVERSIONS[function](*arguments)
    except (TypeError, ValueError, OverflowError):
        return None


def shown(node: ast.expr) -> str:
    """Return an expression's text, short and on one line."""
    try:
        return printable(ast.unparse(node), 60)
    except (RecursionError, ValueError):
        return "…"


def is_minus_100(node: ast.AST) -> bool:
    """Return whether a node is -100, the label that the loss ignores."""
    if not isinstance(node, ast.UnaryOp) or not isinstance(node.op, ast.USub):
        return False
    return isinstance(node.operand, ast.Constant) and node.operand.value == 100

"""The templates of the package's messages, as its sources state them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
from jinja2 import nodes

from tools.messages.sources import called_name
from tools.syntax import parsed

PACKAGE = Path(__file__).resolve().parents[2] / "loraloom"
VERBS = "cli/*_verb*.py"
_ROW = re.compile(r"row \{\w+\}:? ")
# Words, and punctuation that another language may write otherwise: `{path}: {note}`.
_TO_TRANSLATE = re.compile(r"[^\W\d_]{2,}|[,;:.()…]")
_PLACEHOLDER = re.compile(r"\{\w+(?::[^{}]*)?\}")


@dataclass(frozen=True, order=True)
class Template:
    """A message's id, as gettext has it.

    Args:
        text: the template, in the singular if there are two.
        plural: the template for several things; "" if nothing is counted.
    """

    text: str
    plural: str = ""


@functools.cache
def templates(package: Path = PACKAGE) -> dict[Template, list[str]]:
    """Every template that has something to translate, and its files, in the order of the files."""
    found: dict[Template, list[str]] = {}
    for path in sorted((*package.rglob("*.py"), *package.rglob("*.j2"))):
        name = f"{package.name}/{path.relative_to(package).as_posix()}"
        for template in sorted(set(templates_of(path))):
            if _TO_TRANSLATE.search(_PLACEHOLDER.sub("", template.text)):
                found.setdefault(template, []).append(name)
    return found


def templates_of(path: Path) -> Iterator[Template]:
    """Every template of a source file or of a part of a page."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".j2":
        yield from templates_in_page(source)
        return
    tree = parsed(path, source)
    yield from templates_in(tree)
    if path.match(VERBS):
        yield from help_in(tree)


def templates_in_page(source: str) -> Iterator[Template]:
    """What a page says with `_("…")` and `ngettext("…", "…", count=…)`."""
    for call in jinja2.Environment().parse(source).find_all(nodes.Call):
        name = call.node.name if isinstance(call.node, nodes.Name) else ""
        texts = [each.value for each in call.args if isinstance(each, nodes.Const)]
        if name in ("_", "ngettext") and texts:
            yield Template(*texts)


def help_in(tree: ast.Module) -> Iterator[Template]:
    """The help of commands, which is the docstrings of their functions."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield Template((ast.get_docstring(node) or "").replace("{", "{{").replace("}", "}}"))


def templates_in(tree: ast.Module) -> Iterator[Template]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        texts = [each.value for each in node.args if is_text(each)]
        match called_name(node):
            case "Message" | "joined" | "marked" | "filled" if node.args and is_text(node.args[0]):
                yield Template(texts[0])
                if begin := _ROW.match(texts[0]):  # a reason for dropping the row, see data/formats/row.py
                    yield Template(texts[0][begin.end() :])
            case "counting" if len(texts) == 2:
                yield Template(*texts)
            case "counted" if len(node.args) > 1 and is_text(node.args[1]):
                yield counted(*texts)


def counted(noun: str, plural: str = "") -> Template:
    """The template that `counted(number, noun, plural)` makes, see `loraloom/text/units.py`."""
    return Template(f"{{count:,}} {noun}", f"{{count:,}} {plural or noun + 's'}")


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)

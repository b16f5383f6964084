"""Sentences of the package that are not messages, wherever they stand: a net below `flow.py`.

`flow.py` follows what is shown back to its literals, and misses what it does not understand. This looks at
every literal instead: one of several English words is for people, unless its place says that it is not
(docstrings, patterns, exceptions for programmers), or `allowed.py` says why.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
from jinja2 import nodes

from tools.messages.allowed import ALLOWED, NAMES
from tools.messages.flow import MESSAGES, Flow
from tools.messages.index import PACKAGE
from tools.messages.sources import Module, called_name
from tools.syntax import tree_of

FEWEST_WORDS = 4
_CODE = re.compile(r"`[^`]*`|\{\w*\}|<[^>]*>")
# Words of English, not parts of paths, keys, options or patterns.
_WORD = re.compile(r"(?<![\w./\\_:=?&-])[a-z]{2,}(?![\w/\\_=*(-]|\.\w)")
_PAGE_CODE = re.compile(r"<(code|pre|style|script)\b.*?</\1>", re.DOTALL)
_READ_ATTRIBUTE = re.compile(r'(?:aria-label|title|placeholder|data-label)="([^"\0]+)"')
_LETTERS = re.compile(r"[A-Za-z]{2,}")
# Calls whose arguments nobody reads as prose.
_NOT_SHOWN = {"compile", "debug", "info", "exception", "startswith", "endswith", "filterwarnings", "match"}
# Exceptions for programmers, which the command line never prints.
_FOR_PROGRAMMERS = {"TypeError", "AssertionError", "AttributeError", "NotImplementedError", "RuntimeError"}


def mark_remaining(flow: Flow) -> Flow:
    """Let a `Flow` know the sentences that it missed, so that they are converted too."""
    for module in flow.modules:
        for node in remaining(module):
            flow.mark(node, weak=False)
    return flow


def all_remaining(package: Path = PACKAGE) -> list[str]:
    """The place and the text of every sentence of the package that is not a message, also in its pages."""
    found = []
    for path in sorted(package.rglob("*.py")):
        module = Module.read(path, package)
        found += [f"{file_of(module)}:{node.lineno}: {text_of(node)}" for node in remaining(module)]
    for path in sorted(package.rglob("*.j2")):
        found += [f"{path.name}: {text}" for text in remaining_in_page(path.read_text(encoding="utf-8"))]
    return found


def unused_allowances(package: Path = PACKAGE) -> list[str]:
    """What `allowed.py` lists and no file has."""
    unused = []
    for file, starts in ALLOWED.items():
        nodes_of_file = ast.walk(tree_of(package / file))
        texts = [text_of(node) for node in nodes_of_file if isinstance(node, ast.Constant | ast.JoinedStr)]
        unused += [
            f"{file}: {start}" for start in starts if not any(text.startswith(start) for text in texts)
        ]
    return unused


def remaining_in_page(source: str) -> list[str]:
    """The texts of a page that are between tags, rather than in `{{ _("…") }}`."""
    data = jinja2.Environment().parse(source).find_all(nodes.TemplateData)
    page = _PAGE_CODE.sub(" ", "\0".join(each.data for each in data))
    texts = [*re.split(r"<[^<>]*>|\0", page), *_READ_ATTRIBUTE.findall(page)]
    found = [
        text.strip() for text in texts if _LETTERS.search(re.sub(r"[<\"][^<>]*$|^[^<>]*[\">]", "", text))
    ]
    return [text for text in found if text.strip("· ") not in NAMES]


def remaining(module: Module) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Every sentence of a module that is not a message, unless it is allowed."""
    for node in module.nodes:
        if (
            isinstance(node, ast.Constant | ast.JoinedStr)
            and num_words(text_of(node)) >= FEWEST_WORDS
            and not _is_elsewhere(node, module)
            and not is_allowed(node, module)
        ):
            yield node


def text_of(node: ast.Constant | ast.JoinedStr) -> str:
    """The literal text of a string, with `{}` for each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)


def num_words(text: str) -> int:
    """The number of English words in lower case, beside code."""
    return len(_WORD.findall(_CODE.sub(" ", text)))


def is_allowed(node: ast.Constant | ast.JoinedStr, module: Module) -> bool:
    """Whether `allowed.py` lists a literal."""
    return any(text_of(node).startswith(start) for start in ALLOWED.get(file_of(module), {}))


def file_of(module: Module) -> str:
    """The path of a module below the package: `data/rows.py`."""
    return "/".join(module.path.parts[-(len(module.name.split(".")) - (module.path.stem != "__init__")) :])


def _is_elsewhere(node: ast.AST, module: Module) -> bool:
    """Whether the place of a literal says that it is a message, or that nobody reads it."""
    parent = module.parents.get(node)
    if isinstance(parent, ast.JoinedStr | ast.Expr | ast.Assert | ast.Compare) or module.is_annotation(node):
        return True  # a part of another literal, a docstring, a condition
    if isinstance(parent, ast.Attribute):  # `"…".split()` is a list of names
        return parent.attr == "split"
    return isinstance(parent, ast.Call) and called_name(parent) in {
        *MESSAGES,
        *_NOT_SHOWN,
        *_FOR_PROGRAMMERS,
    }

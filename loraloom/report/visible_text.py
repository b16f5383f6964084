"""Showing invisible characters in reports, and removing private paths from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from markupsafe import Markup, escape

from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.text.visible import visible

# Absolute folders in our own sentences. Not a fraction, a URL, or `instruction/response`.
_FOLDERS = re.compile(r"(?<![\w.:/\\…~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:*?\"<>|,;'()`]+[/\\])+")
_CODE = re.compile("`([^`]+)`")
PATH_KEYS = frozenset({"model_name_or_path", "init_adapter", "train", "eval", "test", "retain"})


def visible_html(text: str) -> Markup:
    """Escape a text for a page, and spell out and mark its invisible characters."""
    # Escaping for HTML does not add invisible characters.
    return Markup(visible(str(escape(rendered(text))), lambda name: f'<span class="unseen">{name}</span>'))


def prose_html(text: str) -> Markup:
    """Format a sentence written by LoRALoom like `visible_html`, and show text in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(visible_html(text))))


def page_text(template: str, /, **values: object) -> Markup:
    """Fill in a text template of the page in the user's language; the template may contain HTML tags.

    Args:
        template: a string literal, so that `make messages` finds it.
        values: texts (which are escaped), `Markup`, or numbers.
    """
    return Markup(rendered(Message(template, **_escaped(values))))


def page_plural(singular: str, plural: str, /, *, count: int, **values: object) -> Markup:
    """Fill in the singular or the plural template, whichever `count` requires, like `page_text`."""
    return Markup(rendered(Message.counting(singular, plural, count=count, **_escaped(values))))


def word_html(word: str) -> Markup:
    """Format a status or verdict from a run's files."""
    return visible_html(shown_word(word))


def _escaped(values: Mapping[str, object]) -> dict[str, object]:
    return {name: _as_html(value) for name, value in values.items()}


def _as_html(value: object) -> object:
    if isinstance(value, Markup):  # also a `str`, which must not be escaped twice
        return str(value)
    return str(visible_html(value)) if isinstance(value, str) else value


def is_absolute(path: str) -> bool:
    """Return whether this is an absolute path on any operating system."""
    return path.startswith("~") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def last_part(path: str) -> str:
    """Return the last component of an absolute path."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def paths_in(value: Any, key: str = "") -> Iterator[str]:
    """Yield the absolute paths in a recipe's settings."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from paths_in(item, str(inner))
    elif isinstance(value, list):
        for item in value:
            yield from paths_in(item, key)
    elif isinstance(value, str) and key in PATH_KEYS and is_absolute(value):
        yield value


def without_folders(value: Any, shown_as: Mapping[str, str]) -> Any:
    """Remove this machine's folders from a value that LoRALoom wrote; do not use it on the text of rows.

    Args:
        value: text or a message, or dicts and lists of these.
        shown_as: known absolute paths -> what to show instead.
    """
    if isinstance(value, dict):
        return {without_folders(k, shown_as): without_folders(v, shown_as) for k, v in value.items()}
    if isinstance(value, list):
        return [without_folders(item, shown_as) for item in value]
    if isinstance(value, Message):
        return value.mapped(lambda text: str(without_folders(text, shown_as)))
    if not isinstance(value, str):
        return value
    return _FOLDERS.sub("…/", replace_known(value, shown_as))


def replace_known(text: str, shown_as: Mapping[str, str]) -> str:
    """Replace known absolute paths in a text, longest first."""
    for path in sorted(shown_as, key=len, reverse=True):
        text = text.replace(path, shown_as[path])
    return text

"""What a text holds that nobody would see, or that should not leave the machine, made plain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from markupsafe import Markup, escape

from loraloom.text.visible import visible

# Absolute folders in sentences of ours. Not a fraction, not a URL, not `instruction/response`.
_FOLDERS = re.compile(r"(?<![\w.:/\\…~-])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\:*?\"<>|,;'()`]+[/\\])+")
_CODE = re.compile("`([^`]+)`")
PATH_KEYS = frozenset({"model_name_or_path", "init_adapter", "train", "eval", "test", "retain"})


def visible_html(text: str) -> Markup:
    """The same for a page: escaped, and what was spelled out set off from what stood there."""
    # Escaping for HTML adds no character that is not seen.
    return Markup(visible(str(escape(text)), lambda name: f'<span class="unseen">{name}</span>'))


def prose_html(text: str) -> Markup:
    """A sentence of ours: as `visible_html`, and what stands in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(visible_html(text))))


def is_absolute(path: str) -> bool:
    """Whether this names a place on some machine, whichever kind of machine it is."""
    return path.startswith("~") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def last_part(path: str) -> str:
    """The file or folder an absolute path ends in."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def paths_in(value: Any, key: str = "") -> Iterator[str]:
    """The absolute paths that a recipe's settings name."""
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from paths_in(item, str(inner))
    elif isinstance(value, list):
        for item in value:
            yield from paths_in(item, key)
    elif isinstance(value, str) and key in PATH_KEYS and is_absolute(value):
        yield value


def without_folders(value: Any, shown_as: Mapping[str, str]) -> Any:
    """A value of ours (never a row's text) without the folders of this machine.

    Args:
        value: text, or dicts and lists of it.
        shown_as: absolute paths that are known, and what stands for each.
    """
    if isinstance(value, dict):
        return {without_folders(k, shown_as): without_folders(v, shown_as) for k, v in value.items()}
    if isinstance(value, list):
        return [without_folders(item, shown_as) for item in value]
    if not isinstance(value, str):
        return value
    return _FOLDERS.sub("…/", replace_known(value, shown_as))


def replace_known(text: str, shown_as: Mapping[str, str]) -> str:
    """A text with known absolute paths replaced, the longest first."""
    for path in sorted(shown_as, key=len, reverse=True):
        text = text.replace(path, shown_as[path])
    return text

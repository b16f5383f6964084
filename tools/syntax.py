"""Syntax trees of sources, each parsed once in a process."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file as it is now, for all who look at it and change nothing in it."""
    return parsed(path, path.read_text(encoding="utf-8"))


@cache
def parsed(path: Path, text: str) -> ast.Module:
    """Parse a text; the path is there so that two files of the same text have trees of their own."""
    return ast.parse(text)

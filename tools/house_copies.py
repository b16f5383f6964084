"""Code that stands in two places: runs of equal lines, whatever stands around them."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping

from tools.house_trace import PACKAGE
from tools.syntax import parsed

SHORTEST = 6  # lines


def code_lines(name: str, text: str) -> list[str]:
    """Return the lines of a module without docstrings, comments, imports, and what surrounds them."""
    tree = parsed(PACKAGE / name, text)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = (line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out)
    return [line for line in lines if line.strip("()[]{},:") and not line.startswith("#")]


def copied_runs(texts: Mapping[str, str]) -> list[tuple[str, str, list[str]]]:
    """Find runs of at least `SHORTEST` equal lines of code.

    Args:
        texts: modules by name, as `name_of` gives it.

    Returns:
        For each run its two modules and its lines; of three places, the first with each other one.
    """
    modules = {name: code_lines(name, text) for name, text in texts.items()}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in modules.items():
        for start in range(len(lines) - SHORTEST + 1):
            places[tuple(lines[start : start + SHORTEST])].append((name, start))
    pairs = {(own[0], other) for own in places.values() if len(own) > 1 for other in own[1:]}
    found = []
    for (name, start), (other, other_start) in sorted(pairs):
        if ((name, start - 1), (other, other_start - 1)) in pairs:
            continue  # within a run that began earlier
        length = SHORTEST
        while ((name, start + length - SHORTEST + 1), (other, other_start + length - SHORTEST + 1)) in pairs:
            length += 1
        found.append((name, other, modules[name][start : start + length]))
    return found

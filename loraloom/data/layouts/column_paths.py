"""Paths to values inside a column: `translation.de`, `answers.text[0]`, `turns[-1].text`.

A column whose name equals the path takes precedence: CSV files of flattened data have columns with dots in
their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from loraloom.data.layouts.exchange import MISSING, Values

MAX_PARTS = 20
_JOINT = re.compile(r"\.|\[-?\d{1,9}\](?=[.\[]|$)")


def value_at(values: Values, name: str) -> Any:
    """Look up a column or path in a row.

    Args:
        values: columns of the row.
        name: the name of a column, or a path into one.

    Returns:
        The value; `MISSING` if the row has no such column or key; None if a value along the path is null or a
        list is too short, such as the empty list of answers to a question.
    """
    if name in values:
        return values[name]
    return MISSING if not _is_path(name) else _at(values, name)


def is_in(sample: Sequence[Values], name: str) -> bool:
    """Return whether any row of a sample has the column or path."""
    return any(value_at(values, name) is not MISSING for values in sample)


def column_of(values: Values, name: str) -> str:
    """Return the column that a path starts at.

    >>> column_of({"answers": {"text": ["yes"]}}, "answers.text[0]")
    'answers'
    """
    if name in values:
        return name
    heads = [head for head, _ in _splits(name) if head in values]
    return heads[0] if heads else name


def names_in(sample: Sequence[Values]) -> list[str]:
    """List the columns of some rows in order of first appearance; replace objects by the paths inside them.

    A list of texts is replaced by the path to its first element.
    """
    return list(dict.fromkeys(name for values in sample for name in _leaves(values, "")))


def _leaves(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, dict) and value and name.count(".") < MAX_PARTS:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and isinstance(value[0], str):
        yield f"{name}[0]"
    else:
        yield name


def _is_path(name: str) -> bool:
    return ("." in name or "[" in name) and name.count(".") + name.count("[") <= MAX_PARTS


def _at(value: Any, name: str) -> Any:
    """Follow a path from a value, trying the longest matching key first."""
    if not name or value is None:
        return value
    if not isinstance(value, dict):
        return MISSING
    found = MISSING
    for head, rest in _splits(name):
        if head in value:
            found = _elements(value[head], rest)
            if found is not MISSING:
                return found
    return found


def _elements(value: Any, rest: str) -> Any:
    """Follow the list indices at the beginning of a path, then the rest of it."""
    while rest.startswith("["):
        index, _, rest = rest[1:].partition("]")
        if value is None:
            return None
        if not isinstance(value, list):
            return MISSING
        place = int(index)
        value = value[place] if -len(value) <= place < len(value) else None
    return MISSING if rest == "." else _at(value, rest.removeprefix("."))


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield every way to split a key off the beginning of a path, longest key first.

    >>> list(_splits("a.b[0]"))
    [('a.b[0]', ''), ('a.b', '[0]'), ('a', '.b[0]')]
    """
    yield name, ""
    for match in reversed(list(_JOINT.finditer(name))):
        if match.start():
            yield name[: match.start()], name[match.start() :]

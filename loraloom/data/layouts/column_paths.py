"""Names of what is inside a column: `translation.de`, `answers.text[0]`, `turns[-1].text`.

A column that is called just so comes first: CSV files of flattened data have columns with dots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from loraloom.data.layouts.exchange import MISSING, Values

MAX_PARTS = 20
_JOINT = re.compile(r"\.|\[-?\d{1,9}\](?=[.\[]|$)")


def value_at(values: Values, name: str) -> Any:
    """What a name stands for in a row.

    Args:
        values: the row's columns.
        name: a column's, or a path into one.

    Returns:
        The value; `MISSING` if the row has no such key; None if something on the way is null, or a list
        has no such element, as with the answers of a question that has none.
    """
    if name in values:
        return values[name]
    return MISSING if not _is_path(name) else _at(values, name)


def is_in(sample: Sequence[Values], name: str) -> bool:
    """Whether any of some rows has what a name stands for."""
    return any(value_at(values, name) is not MISSING for values in sample)


def column_of(values: Values, name: str) -> str:
    """The column that a name is in, or is.

    >>> column_of({"answers": {"text": ["yes"]}}, "answers.text[0]")
    'answers'
    """
    if name in values:
        return name
    heads = [head for head, _ in _splits(name) if head in values]
    return heads[0] if heads else name


def names_in(sample: Sequence[Values]) -> list[str]:
    """The columns of some rows, in the order they first appear; for one with objects, what is in it."""
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
    """What a path leads to from a value; the longest key that fits goes before shorter ones."""
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
    """Go into a list as often as `[0]` says so, then on along the path."""
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
    """Every way to take a key off the beginning of a path, the longest key first.

    >>> list(_splits("a.b[0]"))
    [('a.b[0]', ''), ('a.b', '[0]'), ('a', '.b[0]')]
    """
    yield name, ""
    for match in reversed(list(_JOINT.finditer(name))):
        if match.start():
            yield name[: match.start()], name[match.start() :]

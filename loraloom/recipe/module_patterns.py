"""Matching of `rank_pattern`, `alpha_pattern`, `layers_to_transform` to modules' names, as in PEFT."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loraloom.text.message import Message

# The number of a layer is the first in a path, as in PEFT since 0.17: layers.1.experts.0 is of layer 1.
_BEFORE_LAYER = r"[^.]*"


def first_match(keys: Iterable[str], module: str) -> str | None:
    """Return the first key that matches the end of a module's name at a dot, as in PEFT.

    >>> first_match(["v", r"encoder.*\\.q"], "encoder.layers.0.q")
    'encoder.*\\\\.q'
    """
    return next((key for key in keys if _matches(key, module)), None)


def _matches(key: str, module: str) -> bool:
    # An adapter that was read may have hundreds of keys, more than `re` keeps compiled.
    if (name := _plain_name(key)) is not None:
        return module == name or module.endswith(f".{name}")
    return re.match(rf"(.*\.)?({key})$", module) is not None


@functools.lru_cache(maxsize=4096)
def _plain_name(key: str) -> str | None:
    """Return the name that a key without special characters matches; None for other expressions."""
    return key.replace("\\.", ".") if re.fullmatch(r"(\w|\\\.)*", key) else None


def layer_of(module: str, patterns: Sequence[str]) -> int | None:
    """Return the number of a module's layer, as PEFT reads it; None if it is in no layer.

    Args:
        module: its name.
        patterns: names that may precede the number; any name if empty.

    >>> layer_of("encoder.layers.3.q", ())
    3
    """
    for pattern in patterns or (_BEFORE_LAYER,):
        found = re.match(rf"(?:^|.*?\.)(?:{pattern})\.(?P<number>\d+)\.", module)
        if found:
            return int(found["number"])
    return None


def check_expressions(expressions: Iterable[str]) -> None:
    """Check keys of a pattern.

    Raises:
        ValueError: a key is not a regular expression; the text does not contain the setting's name.
    """
    for expression in expressions:
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(rf"(.*\.)?({expression})$")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(
                Message(
                    "has `{expression}`, which is not a regular expression ({error})",
                    expression=expression,
                    error=error,
                )
            ) from None


def read_pattern(value: Any) -> Any:
    """Read a mapping from module names to numbers.

    Raises:
        ValueError: the value is not such a mapping; the text does not contain the setting's name.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key.strip() for key in value):
        raise ValueError(Message("must be a mapping from names of modules to numbers, such as {{q: 8}}"))
    check_expressions(value)
    return dict(value)


def read_layers(value: Any) -> Any:
    """Read numbers of layers: a single number, or a list."""
    return [value] if isinstance(value, int | str) and not isinstance(value, bool) else value or None


def read_layer_names(value: Any) -> Any:
    """Read the name that precedes the number of a layer: a single name, or a list.

    Raises:
        ValueError: a name is not a regular expression.
    """
    names = [value] if isinstance(value, str) and value else value or None
    if isinstance(names, list):
        check_expressions(str(name) for name in names)
    return names

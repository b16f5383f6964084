"""Names of modules in the `lora` section of a recipe: parsing them, and matching them with a base's modules.

`target_modules`:

all-linear                     every linear of encoder and decoder
[q, v], `q, v`                 names: the end of a module's path, at a dot
attention.q, wo                the same, with more of the path
.*\\.layer\\.1\\..*\\.(?:q|v)      a regular expression over whole paths
decoder:q, decoder: all-linear, encoder:.*\\.wo
                               any of these, limited to one part of the model

Keys of `rank_pattern` and `alpha_pattern` are regular expressions for the end of a path, as in PEFT;
`layers_to_transform` counts layers as PEFT does.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.text.message import Message
from loraloom.text.visible import quoted

ALL_LINEAR = "all-linear"
SCOPES = ("encoder", "decoder", "cross")
# Only in `(?:` may a regular expression contain a colon after letters: `decoder:(?:q|v)`.
_SCOPED = re.compile(r"\s*([A-Za-z_]\w*)\s*:(.*)", re.DOTALL)
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")
# The number of a layer is the first in a path, as in PEFT since 0.17: layers.1.experts.0 is of layer 1.
_BEFORE_LAYER = r"[^.]*"


@dataclass(frozen=True)
class TargetName:
    """One entry of `target_modules`.

    Args:
        scope: `encoder`, `decoder` or `cross`; "" for the whole model.
        pattern: `all-linear`, a name, or a regular expression.
    """

    scope: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.scope}:{self.pattern}" if self.scope else self.pattern


def parse_target(text: str) -> TargetName:
    """Parse one target, ignoring spaces around its parts.

    Raises:
        ValueError: its prefix is not a part of a model; the message does not contain the setting's name.
    """
    scoped = _SCOPED.fullmatch(text)
    if scoped is None:
        return TargetName("", text.strip())
    if scoped[1] not in SCOPES:
        raise ValueError(
            Message(
                "may have the prefix `encoder:`, `decoder:` or `cross:`, but not `{prefix}:`",
                prefix=scoped[1],
            )
        )
    return TargetName(scoped[1], scoped[2].strip())


def read_target_modules(value: Any) -> str | list[str]:
    """Normalize the value of `target_modules`: a list of names, `all-linear`, or a regular expression.

    Args:
        value: value from YAML or an adapter's configuration.

    Raises:
        ValueError: the value has another type, names nothing, or is an invalid regular expression; the
            message does not contain the setting's name.
    """
    if isinstance(value, str):
        parts = [parse_target(part) for part in value.split(",") if part.strip()]
        if len(parts) == 1 and parts[0].pattern == ALL_LINEAR:
            return str(parts[0])
        if parts and not all(_NAME.fullmatch(part.pattern) or not part.pattern for part in parts):
            return _expression(value)
    elif isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        parts = [parse_target(name) for name in value]
    else:
        raise ValueError(Message("must be `all-linear`, a list of module names, or a regular expression"))
    if not parts or not all(part.pattern for part in parts):
        raise ValueError(Message("names no module"))
    return list(dict.fromkeys(map(str, parts)))


def _expression(value: str) -> str:
    target = parse_target(value)
    try:
        with warnings.catch_warnings(action="ignore"):
            re.compile(target.pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            Message("must be a valid regular expression ({error}) or a list of names", error=error)
        ) from None
    return str(target)


def _check_expressions(expressions: Iterable[str]) -> None:
    """Check that texts are valid regular expressions.

    Raises:
        ValueError: a key is not a regular expression; the message does not contain the setting's name.
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
        ValueError: the value is not such a mapping; the message does not contain the setting's name.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) and key.strip() for key in value):
        raise ValueError(Message("must be a mapping from names of modules to numbers, such as {{q: 8}}"))
    _check_expressions(value)
    return dict(value)


def read_layers(value: Any) -> Any:
    """Convert layer numbers to a list: a single number is also allowed, and an empty value becomes None."""
    return [value] if isinstance(value, int | str) and not isinstance(value, bool) else value or None


def read_layer_names(value: Any) -> Any:
    """Convert the names that precede layer numbers to a list; a single name is also allowed.

    Raises:
        ValueError: a name is not a regular expression.
    """
    names = [value] if isinstance(value, str) and value else value or None
    if isinstance(names, list):
        _check_expressions(str(name) for name in names)
    return names


def is_norm_name(name: str) -> bool:
    """Return whether a name in `modules_to_save` can be a norm's: in all families it contains "norm"."""
    return "norm" in name.lower()


def read_modules_to_save(value: Any) -> list[str] | None:
    """Normalize the value of `modules_to_save`: a list of names of norms.

    Raises:
        ValueError: the value has another type, or names a module other than a norm.
    """
    names = [value] if isinstance(value, str) else value or None
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(Message("must be a list of names of norms, such as [layer_norm]"))
    others = [name for name in names if not is_norm_name(name)]
    if others:
        raise ValueError(
            Message(
                "has {name}, but only norms can be trained in full, because adapters share the base's other "
                "weights; use trainable_token_indices for tokens, and target_modules for linears",
                name=quoted(others[0]),
            )
        )
    return sorted(set(names))


def first_match(keys: Iterable[str], module: str) -> str | None:
    """Return the first key that matches a module's whole name, or its end after a dot, as in PEFT.

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
    """Return the name that a key without special characters matches; None for other regular expressions."""
    return key.replace("\\.", ".") if re.fullmatch(r"(\w|\\\.)*", key) else None


def layer_of(module: str, patterns: Sequence[str]) -> int | None:
    """Return the number of a module's layer, as PEFT reads it; None if it is in no layer.

    Args:
        module: its name.
        patterns: regular expressions for the name that precedes the number; any name if empty.

    >>> layer_of("encoder.layers.3.q", ())
    3
    """
    for pattern in patterns or (_BEFORE_LAYER,):
        found = re.match(rf"(?:^|.*?\.)(?:{pattern})\.(?P<number>\d+)\.", module)
        if found:
            return int(found["number"])
    return None

"""The syntax of `target_modules`, for recipes and for the modules of a base.

all-linear                     every linear of encoder and decoder
[q, v], `q, v`                 names: the end of a module's path, at a dot
attention.q, wo                the same, with more of the path
.*\\.layer\\.1\\..*\\.(?:q|v)      a regular expression over whole paths
decoder:q, decoder: all-linear, encoder:.*\\.wo
                               each of these, in one part of the model only
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

from loraloom.text.message import Message

ALL_LINEAR = "all-linear"
SCOPES = ("encoder", "decoder", "cross")
# Only in `(?:` may an expression contain a colon after letters: `decoder:(?:q|v)`.
_SCOPED = re.compile(r"\s*([A-Za-z_]\w*)\s*:(.*)", re.DOTALL)
_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")


@dataclass(frozen=True)
class TargetName:
    """One target.

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
        ValueError: its prefix is not a part of a model; the text does not contain the setting's name.
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
    """Normalize the value of `target_modules`: a list of names, or `all-linear` or an expression.

    Args:
        value: value from YAML or an adapter's configuration.

    Raises:
        ValueError: the value has another type, names nothing, or is an invalid expression; the text does not
            contain the setting's name.
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

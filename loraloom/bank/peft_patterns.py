"""rank_pattern and alpha_pattern in adapter_config.json: PEFT does not keep the order of their keys.

The first key that matches a module determines its value, but PEFT writes the keys in alphabetical order. So
if two keys match the same module, saving can change which of them applies (findings/peft_sorts_patterns.sh).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from loraloom.bank.peft_targets import match_untrusted
from loraloom.errors import AdapterError
from loraloom.recipe import LoraSettings
from loraloom.recipe.module_names import first_match
from loraloom.text.message import Message

PATTERNS = ("rank_pattern", "alpha_pattern")


def written_patterns(settings: LoraSettings, modules: Sequence[str]) -> dict[str, object]:
    """Return rank_pattern and alpha_pattern in a form in which the order of their keys does not matter.

    Args:
        settings: settings of the adapter.
        modules: the modules that it adapts.
    """
    written: dict[str, object] = {}
    for name in PATTERNS:
        pattern: dict[str, Any] = getattr(settings, name)
        chosen = {module: first_match(pattern, module) for module in modules}
        if chosen != {module: first_match(sorted(pattern), module) for module in modules}:
            pattern = {re.escape(module): pattern[key] for module, key in chosen.items() if key is not None}
        if pattern:
            written[name] = pattern
    return written


def exact_patterns(config: Mapping[str, Any], modules: Sequence[str], where: str) -> dict[str, Any]:
    """Read rank_pattern and alpha_pattern, with a separate entry for each module that a key matches.

    Args:
        config: its adapter_config.json, whose regular expressions are not trusted.
        modules: the modules that it has tensors for.
        where: its folder, for messages.

    Returns:
        For `rank_pattern` and `alpha_pattern`, a dict from each module's name, escaped as a regular
        expression, to its value.

    Raises:
        AdapterError: a pattern is not a mapping, or a key is invalid or takes too long to match.
    """
    found: dict[str, Any] = {}
    for name in PATTERNS:
        pattern = config.get(name) or {}
        if not isinstance(pattern, dict):
            raise AdapterError(Message("the adapter's `{name}` is not a mapping", name=name), where=where)
        exact: dict[str, Any] = {}
        for key, value in pattern.items():
            for module in match_untrusted(rf"(.*\.)?({key})", modules, name, where):
                exact.setdefault(re.escape(module), value)
        found[name] = exact
    return found

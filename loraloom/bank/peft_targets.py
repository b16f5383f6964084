"""Selection of the linears that an adapter_config.json names, by PEFT's rules, and a check of their tensors.

PEFT adapts the linears that match a name in target_modules, and ignores a name that matches nothing: it saves
the name in the list, but no tensors for it. So a name without a match is reported as a note. If a linear that
matches has no tensors, the folder is incomplete; PEFT would leave the B of that linear at zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex
from torch import nn

from loraloom.bank.peft_base import check_not_deeper, check_not_shallower
from loraloom.base.targets import linears
from loraloom.errors import AdapterError
from loraloom.recipe.module_names import ALL_LINEAR
from loraloom.text.message import Message

MAX_EXPRESSION = 10_000
SECONDS_FOR_AN_EXPRESSION = 1.0
# Which number in a path is that of the layer: the first in PEFT today, the last in older versions.
FIRST, LAST = "first", "last"
SHOWN_NAMES = 5


@dataclass(frozen=True)
class ModuleSelection:
    """The modules that a configuration names.

    Args:
        modules: names of linears of the base.
        unmatched: names in `target_modules` that match no linear.
    """

    modules: frozenset[str]
    unmatched: tuple[str, ...] = ()


def check_complete(
    config: Mapping[str, Any], modules: Sequence[str], model: nn.Module, family: Any, where: str
) -> list[str]:
    """Check that an adapter has tensors for exactly those linears of this base that its configuration names.

    Args:
        config: adapter_config.json, already checked for unsupported features.
        modules: modules that the adapter has tensors for.
        model, family: model and family of the base.
        where: the adapter's folder, for messages.

    Returns:
        Notes on names in target_modules that match nothing.

    Raises:
        AdapterError: the adapter was made for a model with a different number of layers, lacks tensors for
            modules that its configuration names, or has tensors for others.
    """
    available = [target.name for target in linears(model, family)]
    own = set(modules)
    check_not_deeper(config, own, available, where)
    readings = [named_modules(config, available, where, layer) for layer in (FIRST, LAST)]
    named = min(readings, key=lambda reading: len(reading.modules ^ own))
    _check_others(config, named, model, available, where)
    if lacking := named.modules - own:
        check_not_shallower(config, own, lacking, available, where)
        raise AdapterError(
            Message(
                "the adapter lacks the tensors of {num_lacking} modules that its `target_modules` names",
                num_lacking=len(lacking),
            ),
            where=where,
            found=Message("no tensors for {lacking}", lacking=min(lacking)),
            fix=Message("The folder is incomplete; copy it again."),
        )
    if surplus := (own & set(available)) - named.modules:
        raise AdapterError(
            Message(
                "the adapter has tensors for {num_surplus} modules that its adapter_config.json does not "
                "name; PEFT would silently ignore them",
                num_surplus=len(surplus),
            ),
            where=where,
            found=min(surplus),
            fix=Message("Add them to target_modules in adapter_config.json if they belong to the adapter."),
        )
    if not named.unmatched:
        return []
    shown = ", ".join(f"`{name}`" for name in sorted(named.unmatched)[:SHOWN_NAMES])
    more = (
        Message(" and {num_unmatched} more", num_unmatched=len(named.unmatched) - SHOWN_NAMES)
        if len(named.unmatched) > SHOWN_NAMES
        else ""
    )
    return [
        Message(
            "{where}: no linear of this base matches {shown}{more} in the adapter's `target_modules`, so the "
            "adapter has no corresponding tensors and adapts {num_own} of {num_available} linears",
            where=where,
            shown=shown,
            more=more,
            num_own=len(own),
            num_available=len(available),
        )
    ]


def _check_others(
    config: Mapping[str, Any], named: ModuleSelection, model: nn.Module, available: Sequence[str], where: str
) -> None:
    """Refuse `target_modules` that also match modules we do not adapt: the head, an embedding, a norm."""
    own, targets = set(available), config.get("target_modules")
    others = {path: module for path, module in model.named_modules() if path and path not in own}
    if isinstance(targets, str):
        layers = [path for path, module in others.items() if isinstance(module, nn.Linear | nn.Embedding)]
        found = [] if targets == ALL_LINEAR else match_untrusted(targets, layers, "target_modules", where)
    else:
        unmatched = set(named.unmatched)
        found = [path for path in others if path in unmatched or unmatched.intersection(_ends(path))]
    excluded = _excluded(config.get("exclude_modules"), found, where)
    if left := sorted(set(found) - set(excluded)):
        raise AdapterError(
            Message(
                "the adapter's `target_modules` names a module that LoRALoom does not adapt and that the "
                "adapter has no tensors for"
            ),
            where=where,
            found=left[0],
            fix=Message(
                "The folder is incomplete; copy it again, or remove that name from adapter_config.json."
            ),
        )


def named_modules(
    config: Mapping[str, Any], available: Sequence[str], where: str, layer: str
) -> ModuleSelection:
    """Select the linears that target_modules, exclude_modules and layers_to_transform describe, as PEFT does.

    Args:
        available: names of the base's linears.
        layer: which of the numbers in a path is the layer's number: the `first` or the `last`.

    Raises:
        AdapterError: a value is neither a list nor a regular expression, an expression takes too long to
            match, or no linear is left.
    """
    named = config.get("target_modules")
    excluded = set(_excluded(config.get("exclude_modules"), available, where))
    candidates = [name for name in available if name not in excluded]
    if isinstance(named, str) and named:
        matched = candidates
        if named != ALL_LINEAR:
            matched = match_untrusted(named, candidates, "target_modules", where)
        if not matched:
            raise AdapterError(
                Message("the adapter's `target_modules` matches no linear of this base"), where=where
            )
        return ModuleSelection(frozenset(matched))
    names = _names(named)
    if not names:
        raise AdapterError(
            Message("the adapter names no `target_modules`"), where=where, found="adapter_config.json"
        )
    exact = [name for name in candidates if name in names]
    by_end = [name for name in candidates if name not in names and names.intersection(_ends(name))]
    found = frozenset([*exact, *_of_layers(config, by_end, where, layer)])
    if not found:
        raise AdapterError(
            Message("the adapter's `target_modules` matches no linear of this base"), where=where
        )
    hit = {end for name in available for end in (name, *_ends(name))}
    return ModuleSelection(found, tuple(sorted(names - hit)))


def _ends(name: str) -> list[str]:
    """List the ends of a path: `a.b.c` → `b.c`, `c`."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]


def _names(values: Any) -> set[str]:
    """Return the names in a list; empty if the value is not a list of names."""
    is_list = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    return set(values) if is_list else set()


def _excluded(value: Any, available: Sequence[str], where: str) -> list[str]:
    if not value:
        return []
    if isinstance(value, str):
        return match_untrusted(value, available, "exclude_modules", where)
    names = _names(value)
    if not names:
        raise AdapterError(Message("the adapter's `exclude_modules` is not a list of names"), where=where)
    return [name for name in available if name in names or names.intersection(_ends(name))]


def _of_layers(config: Mapping[str, Any], names: Sequence[str], where: str, layer: str) -> list[str]:
    """Return the names that are in the layers listed in layers_to_transform; all names if it lists none."""
    wanted = config.get("layers_to_transform")
    if wanted is None or wanted == []:
        return list(names)
    layers = wanted if isinstance(wanted, list) else [wanted]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in layers):
        raise AdapterError(
            Message("the adapter's `layers_to_transform` is not a list of whole numbers"), where=where
        )
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not _names(patterns):
        raise AdapterError(Message("the adapter's `layers_pattern` is not a list of names"), where=where)
    start = r"(?:^|.*?\.)" if layer == FIRST else r"(?:^|.*\.)"
    before = "|".join(f"(?:{pattern})" for pattern in patterns)
    expression = _compiled(rf"{start}(?:{before})\.(\d+)\..*", "layers_pattern", where)
    matches = ((name, _match(expression, name, "layers_pattern", where)) for name in names)
    return [name for name, match in matches if match and int(match[1]) in layers]


def match_untrusted(pattern: str, names: Sequence[str], key: str, where: str) -> list[str]:
    """Return the names that a regular expression in an adapter's configuration fully matches.

    Raises:
        AdapterError: the regular expression is too long or invalid, or takes too long to match.
    """
    expression = _compiled(pattern, key, where)
    return [name for name in names if _match(expression, name, key, where)]


def _compiled(pattern: str, key: str, where: str) -> Any:
    if len(pattern) > MAX_EXPRESSION:
        raise AdapterError(
            Message("the adapter's `{key}` is too long for a regular expression", key=key), where=where
        )
    try:
        return regex.compile(pattern, regex.VERSION0)
    except (regex.error, RecursionError, OverflowError):
        raise AdapterError(
            Message("the adapter's `{key}` is not a valid regular expression", key=key), where=where
        ) from None


def _match(expression: Any, name: str, key: str, where: str) -> Any:
    """Match an untrusted regular expression, for at most a second; some, like `(a+)+`, could take years."""
    try:
        return expression.fullmatch(name, timeout=SECONDS_FOR_AN_EXPRESSION)
    except TimeoutError:
        raise AdapterError(
            Message("the adapter's `{key}` takes too long to match", key=key), where=where
        ) from None

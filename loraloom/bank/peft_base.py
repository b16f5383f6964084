"""The base that an adapter was made for, identified by fingerprint, name and layers.

PEFT loads an adapter onto any base whose linears have the same names and shapes, and so does the bank. Only
LoRALoom's folders contain a fingerprint of the base's weights. Other folders only name the base, and the name
may be a path on another machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loraloom.base.loading import Base
from loraloom.base.targets import linears
from loraloom.errors import AdapterError
from loraloom.recipe.module_names import ALL_LINEAR
from loraloom.text.hub_name import repository_of
from loraloom.text.message import Message, joined
from loraloom.text.visible import one_line

NAME = "base_model_name_or_path"
# The hub's cache: …/models--google--mt5-small/snapshots/<revision>
SNAPSHOT = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]")
STACKS = ("encoder", "decoder")
LAYER = re.compile(r"(?:\w+\.)*?(encoder|decoder)\.(?:text_model\.)?[^.]+\.(\d+)\.")


def portable_name(name: str) -> str:
    """Return a model's name without a path on this machine: its hub name, or the last part of its path."""
    is_path = Path(name).is_absolute() or name.startswith((".", "~")) or Path(name).is_dir()
    return Path(name).name if is_path else name


def check_fingerprints(origin: Mapping[str, Any], base: Base, where: str) -> None:
    """Refuse an adapter that was trained with another base or another vocabulary.

    Args:
        origin: contents of its loraloom.json; {} if it has none.
        base: the base to attach it to.
        where: its folder, for the message.

    Raises:
        AdapterError: a fingerprint differs.
    """
    for key, own, what in (
        ("base_fingerprint", base.fingerprint, Message("another base model")),
        ("tokenizer_fingerprint", base.tokenizer_fingerprint, Message("another vocabulary")),
    ):
        if origin.get(key, own) != own:
            raise AdapterError(
                Message("the adapter was trained on {what}", what=what),
                where=where,
                found=f"{origin.get('base')} {str(origin[key])[:12]}",
                allowed=f"{portable_name(base.name)} {own[:12]}",
                fix=Message("Use the adapter with the base that it was trained on."),
            )


def unverified(
    config: Mapping[str, Any], origin: Mapping[str, Any], modules: Sequence[str], base: Base, where: str
) -> list[str]:
    """Return notes if an adapter has no fingerprint by which to verify its base; [] if it has one.

    Args:
        config: its adapter_config.json.
        origin: contents of its loraloom.json; {} if it has none.
        modules: modules that it has tensors for.
        base: the base to attach it to.
        where: its folder, for the notes.
    """
    if "base_fingerprint" in origin:
        return []
    named, ours = config.get(NAME), portable_name(base.name)
    missing = Message(
        "it has no fingerprint of its base (PEFT writes none), so it cannot be verified that "
        "these are the weights it was trained on"
    )
    if not isinstance(named, str) or not named.strip():
        said = Message("names no base")
    elif is_same_name(named, base.name):
        said = Message("names {shown} as its base, which matches the base used here", shown=_shown(named))
    else:
        said = Message("was made for {shown}, but is used with {ours}", shown=_shown(named), ours=ours)
    return [
        Message("{where} {said}; {missing}", where=where, said=said, missing=missing),
        *_of_fewer_layers(modules, base, where),
    ]


def _of_fewer_layers(modules: Sequence[str], base: Base, where: str) -> list[str]:
    """Return a note if an adapter has tensors for fewer layers than the base has; otherwise [].

    `target_modules` may not reveal this, because PEFT replaces `all-linear` with the full paths of the
    linears that it found.
    """
    own = num_layers(modules)
    has = num_layers(target.name for target in linears(base.model, base.family))
    if all(count == has.get(stack) for stack, count in own.items()):
        return []
    counted, ours = _counted(own, has)
    return [
        Message(
            "{where} has tensors for {counted} layers, but this base has {ours}; this is correct if "
            "layers were left out on purpose, but wrong if the adapter was made for a smaller model",
            where=where,
            counted=counted,
            ours=ours,
        )
    ]


def _counted(own: Mapping[str, int], has: Mapping[str, int]) -> tuple[str, str]:
    """Format the numbers of layers of an adapter and a base: `4 encoder and 4 decoder`, `8 and 8`."""
    counted = joined(" and ", (f"{count} {stack}" for stack, count in own.items()))
    return counted, joined(" and ", (str(has.get(stack, 0)) for stack in own))


def is_same_name(named: str, other: str) -> bool:
    """Return whether two names may refer to the same model: hub names, or paths of folders or hub snapshots.

    >>> is_same_name("google/mt5-small", "/models/mt5-small/")
    True
    >>> is_same_name("google/flan-t5-base", "mine/flan-t5-base")
    False
    """
    first, second = _parts(named), _parts(other)
    if _is_hub_name(named, first) and _is_hub_name(other, second):
        return first == second
    return first[-1:] == second[-1:]


def _parts(name: str) -> list[str]:
    if snapshot := SNAPSHOT.search(name):
        return [snapshot[1].casefold(), snapshot[2].casefold()]
    repository = repository_of(name.strip())
    return [part.casefold() for part in re.split(r"[/\\]+", repository) if part not in ("", ".")]


def _is_hub_name(name: str, parts: list[str]) -> bool:
    is_path = name.startswith((".", "~", "/", "\\")) or Path(name).is_dir()
    return bool(SNAPSHOT.search(name)) or (len(parts) == 2 and not is_path)


def _shown(name: str) -> str:
    """Return the name to show for a base: its hub name, or the last part of a path on another machine."""
    parts = [part for part in re.split(r"[/\\]+", name.strip()) if part]
    if snapshot := SNAPSHOT.search(name):
        parts = [snapshot[1], snapshot[2]]
    is_hub_name = _is_hub_name(name, parts)
    return one_line("/".join(parts) if is_hub_name else (parts or [name])[-1])


def check_not_deeper(
    config: Mapping[str, Any], modules: Iterable[str], available: Iterable[str], where: str
) -> None:
    """Refuse an adapter with tensors for layers that the base does not have.

    Args:
        config: its adapter_config.json.
        modules: modules that it has tensors for.
        available: linears of the base.
        where: its folder, for the message.

    Raises:
        AdapterError: the adapter was made for a deeper model.
    """
    own, has = num_layers(modules), num_layers(available)
    if any(count > has.get(stack, 0) for stack, count in own.items()):
        raise _made_for_others(config, own, has, where)


def check_not_shallower(
    config: Mapping[str, Any],
    modules: Iterable[str],
    lacking: Iterable[str],
    available: Iterable[str],
    where: str,
) -> None:
    """Refuse an adapter if it lacks tensors only for layers beyond the last layer that it has tensors for.

    Args:
        lacking: linears of the base that its configuration names but that it has no tensors for.
        config, modules, available, where: as in `check_not_deeper`.

    Raises:
        AdapterError: the adapter was made for a model with fewer layers.
    """
    own, has = num_layers(modules), num_layers(available)
    layers = [LAYER.match(name) for name in lacking]
    if all(layer and own.get(layer[1]) and int(layer[2]) >= own[layer[1]] for layer in layers):
        raise _made_for_others(config, own, has, where)


def num_layers(modules: Iterable[str]) -> dict[str, int]:
    """Return the number of layers in encoder and decoder, judging by the highest layer number in names.

    >>> num_layers(["encoder.layers.0.mlp.up", "model.encoder.layers.3.mlp.up"])
    {'encoder': 4}
    """
    found: dict[str, int] = {}
    for layer in filter(None, map(LAYER.match, modules)):
        found[layer[1]] = max(found.get(layer[1], 0), int(layer[2]) + 1)
    return {stack: found[stack] for stack in STACKS if stack in found}


def _made_for_others(
    config: Mapping[str, Any], own: Mapping[str, int], has: Mapping[str, int], where: str
) -> AdapterError:
    """Return the error for an adapter that was made for a model with a different number of layers."""
    targets = config.get("target_modules")
    may_skip = config.get("layers_to_transform") is not None or (
        isinstance(targets, str) and targets != ALL_LINEAR
    )
    counted, ours = _counted(own, has)
    named = config.get(NAME)
    model = f", {_shown(named)}" if isinstance(named, str) and named.strip() else ""
    return AdapterError(
        (
            Message(
                "the adapter was made for a model with at least {counted} layers; this base has {ours}",
                counted=counted,
                ours=ours,
            )
            if may_skip
            else Message(
                "the adapter was made for a model with {counted} layers; this base has {ours}",
                counted=counted,
                ours=ours,
            )
        ),
        where=where,
        fix=Message("Use the adapter with the base that it was trained on{model}.", model=model),
    )

"""The linears that an adapter's settings name: `target_modules`, limited to `layers_to_transform`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from loraloom.architectures.family import Family
from loraloom.base.targets import Match, Target, resolve_targets, unique_targets
from loraloom.errors import Problem, TargetError
from loraloom.recipe import LoraSettings
from loraloom.recipe.module_names import first_match, layer_of
from loraloom.text.message import Message


def matches_of(model: nn.Module, family: Family, settings: LoraSettings) -> tuple[Match, ...]:
    """Find the linears that each pattern of an adapter's `target_modules` matches in its layers.

    Raises:
        TargetError: a pattern, a layer, or a key of rank_pattern or alpha_pattern matches nothing.
    """
    matches = resolve_targets(model, family, settings.target_modules)
    if settings.layers_to_transform is not None:
        matches = _in_layers(matches, settings.layers_to_transform, settings.layers_pattern or ())
    _check_keys(settings, unique_targets(matches))
    return matches


def _in_layers(matches: Sequence[Match], layers: Sequence[int], patterns: Sequence[str]) -> tuple[Match, ...]:
    numbers = {target.name: layer_of(target.name, patterns) for match in matches for target in match.targets}
    present = sorted({number for number in numbers.values() if number is not None})
    problems = [
        Problem(
            Message("no targeted linear is in layer {layer}", layer=layer),
            where="lora.layers_to_transform",
            allowed=", ".join(map(str, present))
            or Message("remove it: no name contains the number of a layer"),
        )
        for layer in layers
        if layer not in present
    ]
    chosen = [
        replace(
            match,
            targets=tuple(
                target
                for target in match.targets
                # PEFT adapts a module that is named by its whole path, regardless of its layer.
                if target.name == match.pattern or numbers[target.name] in layers
            ),
        )
        for match in matches
    ]
    problems += [
        Problem(
            Message("`{pattern}` matches no linear of these layers", pattern=match.pattern),
            where="lora.layers_to_transform",
        )
        for match in chosen
        if not match.targets and not problems
    ]
    if problems:
        raise TargetError(problems)
    return tuple(chosen)


def _check_keys(settings: LoraSettings, targets: Sequence[Target]) -> None:
    """Refuse pattern keys that are the first match for no targeted linear; PEFT ignores such keys."""
    problems = []
    for name in ("rank_pattern", "alpha_pattern"):
        keys = list(getattr(settings, name))
        used = {first_match(keys, target.name) for target in targets}
        problems += [
            Problem(
                Message(
                    "`{key}` is not the first match for any of the {num_targets} targeted linears",
                    key=key,
                    num_targets=len(targets),
                ),
                where=f"lora.{name}",
                allowed=", ".join(sorted({target.suffix for target in targets})),
                fix=Message("Correct it, put it before the key that matches first, or leave it out."),
            )
            for key in keys
            if key not in used
        ]
    if problems:
        raise TargetError(problems)

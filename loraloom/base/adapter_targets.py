"""The linears that an adapter's settings select: matches of `target_modules` in `layers_to_transform`."""

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


def matches_of(
    model: nn.Module, family: Family, settings: LoraSettings, available: Sequence[Target] | None = None
) -> tuple[Match, ...]:
    """Find the linears that each pattern of an adapter's `target_modules` matches in the chosen layers.

    Args:
        model: the base.
        family: family of the base.
        settings: settings of the adapter.
        available: what `linears` lists for this model, if it is known.

    Raises:
        TargetError: a pattern or a layer matches nothing, or a key of rank_pattern or alpha_pattern has no
            effect.
    """
    matches = resolve_targets(model, family, settings.target_modules, available=available)
    if settings.layers_to_transform is not None:
        matches = _in_layers(matches, settings.layers_to_transform, settings.layers_pattern or ())
    _check_keys(settings, unique_targets(matches))
    return matches


def _in_layers(matches: Sequence[Match], layers: Sequence[int], patterns: Sequence[str]) -> tuple[Match, ...]:
    numbers = {target.name: layer_of(target.name, patterns) for match in matches for target in match.targets}
    present = sorted({number for number in numbers.values() if number is not None})
    problems = [
        Problem(
            Message("layer {layer} contains none of the targeted linears", layer=layer),
            where="lora.layers_to_transform",
            allowed=", ".join(map(str, present))
            or Message("none, because no targeted linear has a layer number in its name"),
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
            Message("`{pattern}` matches no linear in these layers", pattern=match.pattern),
            where="lora.layers_to_transform",
        )
        for match in chosen
        if not match.targets and not problems
    ]
    if problems:
        raise TargetError(problems)
    return tuple(chosen)


def _check_keys(settings: LoraSettings, targets: Sequence[Target]) -> None:
    """Refuse a key of rank_pattern or alpha_pattern that has no effect, which PEFT would ignore silently.

    A linear uses the first key that matches it, so a key may match linears and still have no effect.
    """
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

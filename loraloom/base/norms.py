"""Normalization layers that an adapter can train copies of, found by name as in PEFT's `modules_to_save`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from loraloom.architectures.family import Family
from loraloom.errors import Problem, TargetError
from loraloom.text.message import Message
from loraloom.text.visible import quoted


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a normalization layer whose only tensors are a scale and perhaps a bias."""
    own = dict(module.named_parameters())
    has_vectors = "weight" in own and own.keys() <= {"weight", "bias"} and not list(module.buffers())
    return has_vectors and type(module).__name__.endswith("Norm") and all(p.dim() == 1 for p in own.values())


def text_modules(model: nn.Module, family: Family) -> dict[str, nn.Module]:
    """Return the modules that text passes through, by path; a module with two paths is listed twice.

    Other modules get no gradient: PEFT's optimizer skips them, whereas an optimizer over a flat tensor of all
    parameters would decay them.
    """
    of_images = tuple(f"{part}." for part in family.parts_for_images)
    found = model.named_modules(remove_duplicate=False)
    return {path: module for path, module in found if path and not f"{path}.".startswith(of_images)}


def ends_in(path: str, names: Collection[str]) -> bool:
    """Return whether a path ends in one of the given names; with a set, fast even for a million names."""
    return any(path[place:] in names for place in range(len(path)))


def matching_norms(
    modules: Mapping[str, nn.Module], names: Sequence[str], *, key: str = "lora.modules_to_save"
) -> dict[str, nn.Module]:
    """Return the normalization layers whose paths end in one of the given names.

    As in PEFT, a name may begin in the middle of a component of the path.

    Args:
        modules: modules of the base, by their paths.
        names: as in `modules_to_save`.
        key: name of the setting in messages.

    Raises:
        TargetError: a name matches nothing, or something that is not a normalization layer.
    """
    problems = []
    for name in names:
        matched = {path: module for path, module in modules.items() if path.endswith(name)}
        other = next((path for path, module in matched.items() if not is_norm(module)), None)
        if other is None and matched:
            continue
        what = (
            Message("{name} matches {module}, which is not a norm", name=quoted(name), module=other)
            if other
            else Message("{name} matches no norm of this base", name=quoted(name))
        )
        ends = {path.rpartition(".")[2] for path, module in modules.items() if is_norm(module)}
        problems.append(Problem(what, where=key, allowed=", ".join(sorted(ends))))
    if problems:
        raise TargetError(problems)
    return {path: module for path, module in modules.items() if path.endswith(tuple(names))}

"""What an experiment may change, and whether what it changes is right as part of the whole recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from loraloom.recipe.values import Seed, SettingError

# One forward pass serves all experiments, so these cannot differ between them.
SHARED_TRAINING_KEYS = frozenset(
    {
        "base_dropout",
        "gradient_checkpointing",
        "packing",
        "per_device_eval_batch_size",
        "save_strategy",
        "save_steps",
        "save_total_limit",
    }
)
EXPERIMENT_NAME = re.compile(r"[^\W_][\w.\-]{0,63}")
RESERVED_EXPERIMENT_NAMES = frozenset({"base"})
_SHARED = (
    "is not an experiment's to change: all experiments of a recipe share one base, one data set and one pass"
)


def checked_changes(
    experiments: Mapping[str, Mapping[str, Any]],
    *,
    sections: Mapping[str, type[BaseModel]],
    common: Mapping[str, Any],
    shared: Mapping[str, Set[str]],
) -> dict[str, dict[str, Any]]:
    """Check every experiment as if it were the whole recipe.

    Args:
        experiments: name -> what differs, in sections and `seed`.
        sections: the sections that may differ, with their models.
        common: what the recipe itself says in them; a section that is wrong itself is missing.
        shared: of a section, the keys that may not differ.

    Returns:
        The changes alone, with their values read: `'5e-5'` has become a number.

    Raises:
        ValidationError: everything that is wrong, located from an experiment's name on.
    """
    errors = _name_errors(experiments)
    checked: dict[str, dict[str, Any]] = {name: {} for name in experiments}
    for name, changes in experiments.items():
        for part, change in changes.items():
            try:
                if part == "seed":
                    checked[name][part] = TypeAdapter(Seed).validate_python(change)
                elif part in sections:
                    keys = shared.get(part, frozenset())
                    checked[name][part] = _checked_section(sections[part], change, common.get(part), keys)
                else:
                    message = f"{_SHARED}; only {', '.join(sections)} and seed may differ"
                    errors.append(_wrong(message, change, name, part))
            except ValidationError as error:
                errors += _relocated(error, name, part)
    if errors:
        raise ValidationError.from_exception_data("experiments", errors)
    return checked


def _name_errors(names: Iterable[str]) -> list[InitErrorDetails]:
    errors = []
    folded: set[str] = set()
    for name in names:
        if not EXPERIMENT_NAME.fullmatch(name) or name.lower() in RESERVED_EXPERIMENT_NAMES:
            message = (
                "cannot name an experiment; letters, digits, `-`, `_` and `.` can, up to 64 of them, "
                "beginning with a letter or digit (`base` is taken)"
            )
            errors.append(_wrong(message, name, name))
        elif name.casefold() in folded:
            message = (
                "differs from another experiment's name in case only, which some file systems cannot hold"
            )
            errors.append(_wrong(message, name, name))
        folded.add(name.casefold())
    return errors


def _checked_section(
    section: type[BaseModel], change: Any, common: BaseModel | None, shared: Set[str]
) -> dict[str, Any]:
    if change is None:
        return {}
    if not isinstance(change, Mapping):
        raise ValidationError.from_exception_data(
            "experiments", [_wrong("must be a mapping of settings", change)]
        )
    errors = [_wrong(_SHARED, value, str(key)) for key, value in change.items() if key in shared]
    try:
        whole = section.model_validate((common or section()).model_dump() | dict(change)).model_dump()
    except ValidationError as error:
        # Where the common settings are wrong themselves, what goes with what cannot be judged.
        errors += [detail for detail in _relocated(error) if common is not None or detail.get("loc")]
        whole = dict(change)
    if errors:
        raise ValidationError.from_exception_data("experiments", errors)
    return {str(key): whole[key] for key in change}


def _wrong(message: str, found: Any, *path: str) -> InitErrorDetails:
    return InitErrorDetails(type="value_error", loc=path, input=found, ctx={"error": SettingError(message)})


def _relocated(error: ValidationError, *path: str) -> list[InitErrorDetails]:
    """The errors of a part, seen from the whole."""
    return [
        InitErrorDetails(
            type=detail["type"], loc=(*path, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {})
        )
        for detail in error.errors(include_url=False)
    ]

"""What an experiment may change, and validation of its changes as part of the whole recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from loraloom.recipe.values import Seed, SettingError
from loraloom.text.message import Message

EXPERIMENT_NAME = re.compile(r"[^\W_][\w.\-]{0,63}")
_RESERVED_NAMES = frozenset({"base"})  # the base's own name in comparisons and on a server
_SHARED = Message(
    "cannot be changed by an experiment, because all experiments of a recipe share one base, dataset and pass"
)


def is_experiment_name(name: str) -> bool:
    """Return whether an experiment, or another adapter beside the base, can have this name.

    An experiment's files are named after it, and some file systems ignore case, so `Base` is reserved too.
    """
    return EXPERIMENT_NAME.fullmatch(name) is not None and name.casefold() not in _RESERVED_NAMES


def checked_changes(
    experiments: Mapping[str, Mapping[str, Any]],
    *,
    sections: Mapping[str, type[BaseModel]],
    common: Mapping[str, Any],
    shared: Mapping[str, Set[str]],
) -> dict[str, dict[str, object]]:
    """Validate each experiment's changes in combination with the recipe's own settings.

    Args:
        experiments: name -> its changes, by section, and `seed`.
        sections: the sections that experiments may change: name -> pydantic model.
        common: the recipe's own sections, without the invalid ones.
        shared: section -> its keys that experiments cannot change.

    Returns:
        Only the changes, with their values parsed: `'5e-5'` becomes a number.

    Raises:
        ValidationError: lists everything that is wrong, with locations starting at an experiment's name.
    """
    errors = _name_errors(experiments)
    checked: dict[str, dict[str, object]] = {name: {} for name in experiments}
    for name, changes in experiments.items():
        for part, change in changes.items():
            try:
                if part == "seed":
                    checked[name][part] = TypeAdapter(Seed).validate_python(change)
                elif part in sections:
                    keys = shared.get(part, frozenset())
                    checked[name][part] = _checked_section(sections[part], change, common.get(part), keys)
                else:
                    message = Message(
                        "{shared}; only {sections} and seed may differ",
                        shared=_SHARED,
                        sections=", ".join(sections),
                    )
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
        if not is_experiment_name(name):
            message = Message(
                "is not a valid name for an experiment; use letters, digits, `-`, `_` and `.`, up to 64 of "
                "them, starting with a letter or digit (`base` is reserved)"
            )
            errors.append(_wrong(message, name, name))
        elif name.casefold() in folded:
            message = Message(
                "differs from another experiment's name only in case, which some file systems ignore"
            )
            errors.append(_wrong(message, name, name))
        folded.add(name.casefold())
    return errors


def _checked_section(
    section: type[BaseModel], change: Any, common: BaseModel | None, shared: Set[str]
) -> dict[str, object]:
    if change is None:
        return {}
    if not isinstance(change, Mapping):
        raise ValidationError.from_exception_data(
            "experiments", [_wrong(Message("must be a mapping of settings"), change)]
        )
    errors = [_wrong(_SHARED, value, str(key)) for key, value in change.items() if key in shared]
    try:
        whole = section.model_validate((common or section()).model_dump() | dict(change)).model_dump()
    except ValidationError as error:
        # If the common settings are invalid themselves, combinations cannot be validated.
        errors += [detail for detail in _relocated(error) if common is not None or detail.get("loc")]
        whole = dict(change)
    if errors:
        raise ValidationError.from_exception_data("experiments", errors)
    return {str(key): whole[key] for key in change}


def _wrong(message: str, found: Any, *path: str) -> InitErrorDetails:
    return InitErrorDetails(type="value_error", loc=path, input=found, ctx={"error": SettingError(message)})


def _relocated(error: ValidationError, *path: str) -> list[InitErrorDetails]:
    """Prepend the path of a part of the recipe to the locations of the errors in that part."""
    return [
        InitErrorDetails(
            type=detail["type"], loc=(*path, *detail["loc"]), input=detail["input"], ctx=detail.get("ctx", {})
        )
        for detail in error.errors(include_url=False)
    ]

"""One setting of a search space: a list of choices, or a range."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, get_args, get_origin

from loraloom.errors import Problem, RecipeError
from loraloom.recipe.aliases import VALUE_ALIASES
from loraloom.recipe.setting_names import FIELDS
from loraloom.recipe.settings_tree import Setting
from loraloom.recipe.typos import nearest
from loraloom.recipe.values import as_number
from loraloom.search.space import DECIMALS, Dimension
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value

EXAMPLE = Message("Write `learning_rate: {{low: 1.0e-5, high: 1.0e-2, log: true}}`, or `r: [4, 8, 16]`.")
_RANGE_KEYS = ("low", "high", "step", "log")
_RANGE_ALIASES = {"min": "low", "max": "high", "from": "low", "to": "high", "lo": "low", "hi": "high"}
# Optuna stores every number as a double.
_LARGEST_COUNT = 2**53


def read_dimension(path: tuple[str, ...], setting: Setting, notes: list[str]) -> Dimension:
    """Read the choices or the range of a setting, without checking the setting's own bounds.

    Args:
        path: path of the setting in a recipe.
        setting: its value in the space.
        notes: receives notes on what was read, for the user.

    Raises:
        RecipeError: lists everything that is wrong with the value.
    """
    key, value = ".".join(path), setting.value
    if isinstance(value, list):
        return Dimension(key, setting.where, choices=_choices(key, setting, notes))
    if isinstance(value, dict):
        return _range(key, path, setting, notes)
    raise RecipeError(
        Message("`{key}` must be a list of choices or a range", key=key),
        where=setting.where,
        found=shown_value(value),
        fix=Message(
            "Write `[{value}, …]` or `{{low: …, high: …}}`; a single value belongs in the recipe.",
            value=shown_value(value),
        ),
    )


def _choices(key: str, setting: Setting, notes: list[str]) -> tuple[Any, ...]:
    if not setting.value:
        raise RecipeError(
            Message("`{key}` is an empty list of choices", key=key), where=setting.where, fix=EXAMPLE
        )
    if key == "lora.target_modules" and len(setting.value) > 1 and all(map(_is_one_name, setting.value)):
        names = ", ".join(setting.value)
        notes.append(
            Message(
                "{where}: each of {names} is a separate choice; [[{names}]] would be a single choice of all "
                "of them",
                where=setting.where,
                names=names,
            )
        )
    spellings = VALUE_ALIASES.get(key, {})
    return tuple(
        spellings.get(choice, choice) if isinstance(choice, str | int | float) else choice
        for choice in setting.value
    )


def _is_one_name(choice: Any) -> bool:
    return isinstance(choice, str) and re.fullmatch(r"[a-z_0-9]+", choice) is not None and choice != "all"


def _range(key: str, path: tuple[str, ...], setting: Setting, notes: list[str]) -> Dimension:
    given, where = setting.value, setting.where
    if not given:
        raise RecipeError(Message("`{key}` has an empty range", key=key), where=where, fix=EXAMPLE)
    kind = _number_kind(path)
    if kind is None:
        raise RecipeError(
            Message("`{key}` is not a number and cannot have a range", key=key),
            where=where,
            fix=Message("List its values: `[…, …]`."),
        )
    problems = [_unknown_part(key, name, where) for name in given if name not in _RANGE_KEYS]
    if not problems:
        problems += [
            Problem(Message("`{key}` has no `{end}`", key=key, end=end), where, fix=EXAMPLE)
            for end in ("low", "high")
            if end not in given
        ]
    numbers: dict[str, float] = {}
    for name in ("low", "high", "step"):
        if name not in given:
            continue
        if (number := _number(given[name], kind)) is not None:
            numbers[name] = number
        else:
            what = (
                Message("`{key}.{name}` must be a whole number", key=key, name=name)
                if kind is int
                else Message("`{key}.{name}` must be a number", key=key, name=name)
            )
            problems.append(Problem(what, where, found=shown_value(given[name])))
    log = given.get("log", False)
    if not isinstance(log, bool):
        problems.append(
            Problem(Message("`{key}.log` must be true or false", key=key), where, found=shown_value(log))
        )
    if problems:
        raise RecipeError(problems)
    return _sensible_range(key, where, numbers, log, kind, notes)


def _unknown_part(key: str, name: str, where: str) -> Problem:
    what = Message("{value} is not part of a range", value=quoted(f"{key}.{name}"))
    if meant := _RANGE_ALIASES.get(name) or nearest(name, _RANGE_KEYS):
        return Problem(what, where, fix=Message("Did you mean `{meant}`?", meant=meant))
    return Problem(what, where, allowed=", ".join(_RANGE_KEYS))


def _sensible_range(
    key: str, where: str, numbers: dict[str, float], log: bool, kind: type, notes: list[str]
) -> Dimension:
    """Build a range, checking that ends, step and scale are consistent."""
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    problems = []
    if low >= high:
        fix: str = (
            Message("Write `[{low:g}]` for one value.", low=low)
            if low == high
            else Message("Write `{{low: {high:g}, high: {low:g}}}`.", high=high, low=low)
        )
        problems.append(
            Problem(
                Message("`{key}`: `low` must be less than `high`", key=key),
                where,
                Message("low {low:g}, high {high:g}", low=low, high=high),
                fix=fix,
            )
        )
    if log and low <= 0:
        fix = Message("Use a `low` above 0, or remove `log`.")
        problems.append(
            Problem(
                Message("`{key}`: a logarithmic range must begin above 0", key=key),
                where,
                found=Message("low {low:g}", low=low),
                fix=fix,
            )
        )
    if log and step is not None:
        problems.append(
            Problem(
                Message("`{key}`: `step` cannot be combined with `log`", key=key),
                where,
                fix=Message("Remove one of them."),
            )
        )
    if step is not None and not 0 < step <= max(high - low, 0) and low < high:
        allowed = Message("above 0, at most {high:g}", high=high - low)
        problems.append(
            Problem(Message("`{key}`: the step does not fit the range", key=key), where, f"{step:g}", allowed)
        )
    if kind is int and max(abs(low), abs(high)) > _LARGEST_COUNT:
        problems.append(
            Problem(
                Message("`{key}`: an end of the range is too large", key=key),
                where,
                allowed=Message("at most {largest_count:,}", largest_count=_LARGEST_COUNT),
            )
        )
    if problems:
        raise RecipeError(problems)
    if kind is int and step is None and not log:
        step = 1
    if step is not None:
        last = low + math.floor((high - low) / step + 1e-9) * step
        if abs(last - high) > 1e-9 * abs(high):
            notes.append(
                Message(
                    "{where}: {key} ends at {last:g}, because no step reaches {high:g}",
                    where=where,
                    key=key,
                    last=last,
                    high=high,
                )
            )
            high = int(last) if kind is int else round(last, DECIMALS)
    return Dimension(key, where, low=low, high=high, step=step, log=log, is_integer=kind is int)


def _number_kind(path: tuple[str, ...]) -> type | None:
    """Return int for a setting that is a whole number, float for any other number, else None."""
    annotation = FIELDS[path].annotation
    for part in get_args(annotation) or (annotation,):
        plain = get_args(part)[0] if get_origin(part) is Annotated else part
        if plain is int or plain is float:
            return int if plain is int else float
    return None


def _number(value: Any, kind: type) -> float | None:
    number = as_number(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return None
    if kind is int:
        return int(number) if number == int(number) else None
    return float(number)

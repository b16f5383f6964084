"""SPACE.yaml -> what a search may vary.

    lr: {low: 1.0e-5, high: 1.0e-2, log: true}
    lora:
      r: [4, 8, 16]
      lora_dropout: {low: 0, high: 0.2, step: 0.05}
      target_modules: [all-linear, [q, v]]

Keys are a recipe's, with its aliases, nested or dotted. Every choice and both ends of every range are
checked as if an experiment of the recipe had them. Neither torch nor Optuna is needed for that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError

from loraloom.errors import Problem, RecipeError
from loraloom.recipe import SHARED_TRAINING_KEYS, Recipe
from loraloom.recipe.aliases import VALUE_ALIASES
from loraloom.recipe.messages import problems_of
from loraloom.recipe.names import FIELDS, nearest
from loraloom.recipe.placing import Placed, Setting, place
from loraloom.recipe.values import as_number
from loraloom.recipe.yaml_tree import compose, shown_key, shown_value
from loraloom.search.space import DECIMALS, Dimension, Space, nested_changes, with_experiments

_EXAMPLE = "Write `learning_rate: {low: 1.0e-5, high: 1.0e-2, log: true}`, or `r: [4, 8, 16]`."
_RANGE_KEYS = ("low", "high", "step", "log")
_RANGE_ALIASES = {"min": "low", "max": "high", "from": "low", "to": "high", "lo": "low", "hi": "high"}
# Optuna keeps every number as a double.
_LARGEST_COUNT = 2**53


def read_space(path: Path, recipe: Recipe) -> Space:
    """Read a space's file.

    Args:
        path: YAML.
        recipe: what the space varies; its values must go with the recipe's.

    Raises:
        RecipeError: the file cannot be read, or everything that is wrong with it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError("this is not UTF-8 text", where=str(path), fix="Save the file as UTF-8.") from None
    except OSError as error:
        near = nearest(path.name, [other.name for other in path.parent.glob("*.y*ml")])
        fix = f"Did you mean `{path.with_name(near)}`?" if near else _EXAMPLE
        raise RecipeError(f"cannot be read: {error.strerror}", where=str(path), fix=fix) from None
    return parse_space(text, name=str(path), recipe=recipe)


def parse_space(text: str, *, name: str, recipe: Recipe) -> Space:
    """Read a space from text.

    Args:
        text: YAML.
        name: what messages call it.
        recipe: what the space varies.

    Raises:
        RecipeError: everything that is wrong with it.
    """
    root, problems = compose(text, lambda line: f"{name}:{line}")
    if root is None or not root.value:
        raise RecipeError("the space is empty", where=name, fix=_EXAMPLE)
    if not isinstance(root.value, dict):
        raise RecipeError(
            "a space must be a mapping of settings",
            where=root.where,
            found=shown_value(root.plain()),
            fix=_EXAMPLE,
        )
    placed = place(root)
    problems += placed.problems + _not_to_vary(placed)
    notes = [str(note) for note in placed.notes]
    dimensions = []
    for path, setting in placed.settings.items():
        if not problem_with_path(path):
            try:
                dimensions.append(_dimension(path, setting, notes))
            except RecipeError as error:
                problems += error.problems
    dimensions, wrong = _checked(dimensions, recipe, name)
    problems += wrong
    if not problems and not dimensions:
        problems.append(Problem("the space names no setting", name, fix=_EXAMPLE))
    if problems:
        raise RecipeError(sorted(dict.fromkeys(problems), key=_line))
    return Space(tuple(dimensions), text, tuple(notes))


def _line(problem: Problem) -> int:
    found = re.search(r":(\d+)$", problem.where)
    return int(found[1]) if found else 0


def _not_to_vary(placed: Placed) -> list[Problem]:
    """What a recipe knows and an experiment may not change."""
    problems = [
        Problem(
            f"{shown_key(key)} is not a setting that can vary", given.where, allowed="lora, training, seed"
        )
        for key, given in placed.script_keys
    ]
    for path, setting in placed.settings.items():
        if reason := problem_with_path(path):
            problems.append(Problem(f"{shown_key('.'.join(path))} {reason}", setting.where))
    if ("experiments",) in placed.places:
        what = "`experiments` has no place in a space: the search makes its own"
        problems.append(Problem(what, placed.places["experiments",]))
    return problems


def problem_with_path(path: Sequence[str]) -> str:
    """Why a setting cannot vary between the trials of a search; empty where it can."""
    if path[0] not in ("lora", "training", "seed"):
        return "cannot vary in a search: all trials share one base, one data set and one pass"
    if path[0] == "training" and path[1] in SHARED_TRAINING_KEYS:
        return "cannot vary in a search: all trials share one pass"
    if path[-1] == "metric_for_best_model":
        return "cannot vary in a search: trials judged by different figures could not be ranked"
    return ""


def _dimension(path: tuple[str, ...], setting: Setting, notes: list[str]) -> Dimension:
    """One setting's choices or range, not yet checked against the setting's own bounds."""
    key, value = ".".join(path), setting.value
    if isinstance(value, list):
        return Dimension(key, setting.where, choices=_choices(key, setting, notes))
    if isinstance(value, dict):
        return _range(key, path, setting, notes)
    raise RecipeError(
        f"`{key}` must be a list of choices or a range",
        where=setting.where,
        found=shown_value(value),
        fix=f"Write `[{shown_value(value)}, …]` or `{{low: …, high: …}}`; one value belongs in the recipe.",
    )


def _choices(key: str, setting: Setting, notes: list[str]) -> tuple[Any, ...]:
    if not setting.value:
        raise RecipeError(
            f"`{key}` has an empty list, so nothing to choose from", where=setting.where, fix=_EXAMPLE
        )
    if key == "lora.target_modules" and len(setting.value) > 1 and all(map(_is_one_name, setting.value)):
        names = ", ".join(setting.value)
        notes.append(
            f"{setting.where}: each of {names} is a choice of its own; [[{names}]] is one choice of them all"
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
        raise RecipeError(f"`{key}` has an empty range", where=where, fix=_EXAMPLE)
    kind = _number_kind(path)
    if kind is None:
        raise RecipeError(
            f"`{key}` is not a number, so it has no range", where=where, fix="List its values: `[…, …]`."
        )
    problems = [
        Problem(f"{shown_key(f'{key}.{name}')} is not part of a range", where, allowed=", ".join(_RANGE_KEYS))
        if not (match := _RANGE_ALIASES.get(name) or nearest(name, _RANGE_KEYS))
        else Problem(
            f"{shown_key(f'{key}.{name}')} is not part of a range", where, fix=f"Did you mean `{match}`?"
        )
        for name in given
        if name not in _RANGE_KEYS
    ]
    problems += [
        Problem(f"`{key}` has no `{end}`", where, fix=_EXAMPLE)
        for end in ("low", "high")
        if end not in given and not problems
    ]
    numbers = {name: _number(given[name], kind) for name in ("low", "high", "step") if name in given}
    problems += [
        Problem(
            f"`{key}.{name}` must be a {'whole ' * (kind is int)}number",
            where,
            found=shown_value(given[name]),
        )
        for name, number in numbers.items()
        if number is None
    ]
    log = given.get("log", False)
    if not isinstance(log, bool):
        problems.append(Problem(f"`{key}.log` must be true or false", where, found=shown_value(log)))
    if problems:
        raise RecipeError(problems)
    return _sensible_range(
        key, where, {name: n for name, n in numbers.items() if n is not None}, log, kind, notes
    )


def _sensible_range(
    key: str, where: str, numbers: dict[str, float], log: bool, kind: type, notes: list[str]
) -> Dimension:
    """A range whose ends, step and scale go together."""
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    problems = []
    if low >= high:
        fix = (
            f"Write `[{low:g}]` for one value."
            if low == high
            else f"Write `{{low: {high:g}, high: {low:g}}}`."
        )
        problems.append(
            Problem(f"`{key}`: low must be below high", where, f"low {low:g}, high {high:g}", fix=fix)
        )
    if log and low <= 0:
        fix = "Begin above 0, or leave `log` out."
        problems.append(
            Problem(f"`{key}`: a logarithmic range must begin above 0", where, found=f"low {low:g}", fix=fix)
        )
    if log and step is not None:
        problems.append(
            Problem(f"`{key}`: `step` and `log` exclude each other", where, fix="Keep one of them.")
        )
    if step is not None and not 0 < step <= max(high - low, 0) and low < high:
        allowed = f"above 0, at most {high - low:g}"
        problems.append(Problem(f"`{key}`: the step does not fit the range", where, f"{step:g}", allowed))
    if kind is int and max(abs(low), abs(high)) > _LARGEST_COUNT:
        problems.append(
            Problem(f"`{key}`: the range is too wide", where, allowed=f"at most {_LARGEST_COUNT:,}")
        )
    if problems:
        raise RecipeError(problems)
    if kind is int and step is None and not log:
        step = 1
    if step is not None:
        last = low + math.floor((high - low) / step + 1e-9) * step
        if abs(last - high) > 1e-9 * abs(high):
            notes.append(f"{where}: {key} ends at {last:g}, as no step leads to {high:g}")
            high = int(last) if kind is int else round(last, DECIMALS)
    return Dimension(key, where, low=low, high=high, step=step, log=log, is_integer=kind is int)


def _number_kind(path: tuple[str, ...]) -> type | None:
    """Whether a setting is a whole number, a number, or neither."""
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


def _checked(dimensions: list[Dimension], recipe: Recipe, name: str) -> tuple[list[Dimension], list[Problem]]:
    """Every choice and both ends of every range through the recipe's own models.

    Returns:
        The dimensions with their choices read (`'5e-5'` has become a number), and what is wrong.
    """
    probes, placed = {}, Placed()
    for number, dimension in enumerate(dimensions):
        for index, value in enumerate(dimension.probes):
            probe = f"p{number}-{index}"
            probes[probe] = nested_changes({dimension.key: value})
            path = ("experiments", probe, *dimension.path)
            placed.settings[path] = Setting(value, dimension.where, dimension.key)
    try:
        checked = with_experiments(recipe, probes).experiments
    except ValidationError as error:
        problems = problems_of(error, placed, name)
        return [], [replace(problem, what=_without_probe(problem.what)) for problem in problems]
    read, wrong = [], []
    for number, dimension in enumerate(dimensions):
        values = [_value_at(checked[f"p{number}-{i}"], dimension.path) for i in range(len(dimension.probes))]
        if dimension.choices and (twice := _given_twice(values)):
            what = f"`{dimension.key}` has one choice twice"
            wrong.append(Problem(what, dimension.where, found=twice, fix="Keep one of them."))
        read.append(replace(dimension, choices=tuple(values)) if dimension.choices else dimension)
    return read, wrong


def _without_probe(what: str) -> str:
    return re.sub(r"experiments\.p\d+-\d+\.", "", what)


def _value_at(changes: Any, path: Sequence[str]) -> Any:
    for part in path:
        changes = changes[part]
    return changes


def _given_twice(values: Sequence[Any]) -> str:
    seen: list[str] = []
    for value in values:
        text = json.dumps(value)
        if text in seen:
            return text
        seen.append(text)
    return ""

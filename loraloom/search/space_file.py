"""Reading SPACE.yaml into a search space.

    lr: {low: 1.0e-5, high: 1.0e-2, log: true}
    lora:
      r: [4, 8, 16]
      lora_dropout: {low: 0, high: 0.2, step: 0.05}
      target_modules: [all-linear, [q, v]]

Keys are those of a recipe, with its aliases, nested or dotted. Every choice and both ends of every range
are validated as if they were set in an experiment of the recipe. This needs neither torch nor Optuna.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loraloom.errors import Problem, RecipeError
from loraloom.recipe import SHARED_TRAINING_KEYS, Recipe
from loraloom.recipe.settings_tree import Setting, SettingsTree, assign_keys
from loraloom.recipe.typos import nearest
from loraloom.recipe.validation_problems import problems_of
from loraloom.recipe.yaml_tree import compose
from loraloom.search.dimension_parsing import EXAMPLE, read_dimension
from loraloom.search.space import Dimension, Space, nested_changes, with_experiments
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value


def read_space(path: Path, recipe: Recipe) -> Space:
    """Read a search space from a file.

    Args:
        path: the YAML file.
        recipe: the recipe that the space varies; both must be valid in combination.

    Raises:
        RecipeError: the file cannot be read or is invalid; lists everything that is wrong with it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RecipeError(
            Message("this is not UTF-8 text"), where=str(path), fix=Message("Save the file as UTF-8.")
        ) from None
    except OSError as error:
        near = nearest(path.name, [other.name for other in path.parent.glob("*.y*ml")])
        fix = Message("Did you mean `{with_name}`?", with_name=path.with_name(near)) if near else EXAMPLE
        raise RecipeError(
            Message("cannot be read: {strerror}", strerror=error.strerror), where=str(path), fix=fix
        ) from None
    return parse_space(text, name=str(path), recipe=recipe)


def parse_space(text: str, *, name: str, recipe: Recipe) -> Space:
    """Read a search space from text.

    Args:
        text: the space as YAML.
        name: name of the text in messages.
        recipe: the recipe that the space varies.

    Raises:
        RecipeError: lists everything that is wrong with it.
    """
    root, problems = compose(text, name)
    if root is None or not root.value:
        raise RecipeError(Message("the space is empty"), where=name, fix=EXAMPLE)
    if not isinstance(root.value, dict):
        raise RecipeError(
            Message("a space must be a mapping of settings"),
            where=root.where,
            found=shown_value(root.plain),
            fix=EXAMPLE,
        )
    tree = assign_keys(root)
    problems += tree.problems + _not_to_vary(tree)
    notes: list[str] = [note.as_message() for note in tree.notes]
    dimensions = []
    for path, setting in tree.settings.items():
        if not problem_with_path(path):
            try:
                dimensions.append(read_dimension(path, setting, notes))
            except RecipeError as error:
                problems += error.problems
    dimensions, wrong = _checked(dimensions, recipe, name)
    problems += wrong
    if not problems and not dimensions:
        problems.append(Problem(Message("the space contains no setting"), name, fix=EXAMPLE))
    if problems:
        raise RecipeError(sorted(dict.fromkeys(problems), key=_line))
    return Space(tuple(dimensions), text, tuple(notes))


def _line(problem: Problem) -> int:
    found = re.search(r":(\d+)$", problem.where)
    return int(found[1]) if found else 0


def _not_to_vary(tree: SettingsTree) -> list[Problem]:
    """Find settings in a space that must not vary between trials."""
    problems = [
        Problem(
            Message("{key} is not a setting that can vary", key=quoted(key)),
            given.where,
            allowed="lora, training, seed",
        )
        for key, given in tree.script_keys
    ]
    for path, setting in tree.settings.items():
        if reason := problem_with_path(path):
            problems.append(
                Problem(Message("{path} {reason}", path=quoted(".".join(path)), reason=reason), setting.where)
            )
    if ("experiments",) in tree.places:
        what = Message("`experiments` is not allowed in a space, because the search makes its own")
        problems.append(Problem(what, tree.places["experiments",]))
    return problems


def problem_with_path(path: Sequence[str]) -> str:
    """Explain why a setting cannot vary between the trials of a search; "" if it can."""
    if path[0] not in ("lora", "training", "seed"):
        return Message("cannot vary in a search, because all trials share one base, one dataset and one pass")
    if path[0] == "training" and path[1] in SHARED_TRAINING_KEYS:
        return Message("cannot vary in a search, because all trials share one pass")
    if path[-1] == "metric_for_best_model":
        return Message("cannot vary in a search, because trials judged by different metrics cannot be ranked")
    return ""


def _checked(dimensions: list[Dimension], recipe: Recipe, name: str) -> tuple[list[Dimension], list[Problem]]:
    """Validate every choice and both ends of every range as settings of the recipe.

    Returns:
        The dimensions with their choices parsed (`'5e-5'` becomes a number), and the problems.
    """
    probes, tree = {}, SettingsTree()
    for number, dimension in enumerate(dimensions):
        for index, value in enumerate(dimension.probes):
            probe = f"p{number}-{index}"
            probes[probe] = nested_changes({dimension.key: value})
            path = ("experiments", probe, *dimension.path)
            tree.settings[path] = Setting(value, dimension.where, dimension.key)
    try:
        checked = with_experiments(recipe, probes).experiments
    except ValidationError as error:
        problems = problems_of(error, tree, name)
        return [], [replace(problem, what=_without_probe(problem.what)) for problem in problems]
    read, wrong = [], []
    for number, dimension in enumerate(dimensions):
        values = [_value_at(checked[f"p{number}-{i}"], dimension.path) for i in range(len(dimension.probes))]
        if dimension.choices and (twice := _given_twice(values)):
            what = Message("`{key}` contains the same choice twice", key=dimension.key)
            wrong.append(Problem(what, dimension.where, found=twice, fix=Message("Remove one of them.")))
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

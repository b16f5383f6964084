"""Conversion of a script's settings to a valid recipe, and what had to be left out of it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from loraloom.errors import Problem
from loraloom.recipe.notes import judge_script_keys
from loraloom.recipe.schema import Recipe
from loraloom.recipe.setting_names import Path
from loraloom.recipe.settings_tree import SettingsTree, assign_keys
from loraloom.recipe.validation_problems import problems_of
from loraloom.recipe.values import SettingError
from loraloom.recipe.writing import write_settings
from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.meaning import Meaning
from loraloom.text.message import Message

_ROUNDS = 60  # each removes at least one setting


@dataclass(frozen=True)
class ScriptRecipe:
    """The recipe equivalent to a script.

    Args:
        text: the recipe as YAML; comments give the location of each setting in the script.
        findings: what could not be read, and what was left out.
    """

    text: str
    findings: tuple[Finding, ...]


def recipe_of(facts: Facts) -> ScriptRecipe:
    """Return the recipe equivalent to a script."""
    meaning = Meaning(facts)
    tree = assign_keys(meaning.document())
    judge_script_keys(tree)
    recipe, refused = _validated(tree, facts.script.source.name)
    findings = [
        Finding("note", "recipe", where, Message("not read: {what}", what=what))
        for where, what in meaning.unread
    ]
    findings += [_left_out(problem) for problem in (*tree.problems, *refused)]
    findings += [Finding("ok", "recipe", note.where, note.what) for note in tree.notes]
    places = {path: setting.where for path, setting in tree.settings.items()}
    return ScriptRecipe(write_settings(recipe, places), tuple(findings))


def _left_out(problem: Problem) -> Finding:
    what = Message("left out of the recipe: {problem}", problem=problem.without_place)
    return Finding("note", "recipe", problem.where, what, problem.fix)


def _validated(tree: SettingsTree, name: str) -> tuple[Recipe, list[Problem]]:
    """Validate settings, and remove those that are not valid in a recipe.

    Returns:
        The recipe, and the problems with the removed settings.
    """
    problems: list[Problem] = []
    for _ in range(_ROUNDS):
        try:
            return Recipe.model_validate(tree.as_mapping()), problems
        except ValidationError as error:
            found = problems_of(error, tree, name)  # before their places are removed
            removed = [path for path in _refused(error) if _remove(tree, path)]
        problems += found
        if not removed:
            break
    required = {("model_name_or_path",), ("data", "train")}
    tree.settings = {path: each for path, each in tree.settings.items() if path in required}
    return Recipe.model_validate(tree.as_mapping()), problems


def _refused(error: ValidationError) -> list[Path]:
    paths = []
    for detail in error.errors(include_url=False):
        path = tuple(str(part) for part in detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        paths.append(path + cause.path if isinstance(cause, SettingError) else path)
    return paths


def _remove(tree: SettingsTree, path: Path) -> bool:
    """Remove the settings under a path, or else under its nearest ancestor that has any.

    Returns:
        Whether any were removed.
    """
    for length in range(len(path), 0, -1):
        inside = [key for key in tree.settings if key[:length] == path[:length]]
        if inside:
            for key in inside:
                del tree.settings[key]
            return True
    return False

"""Reading recipes: from a file or text to `Recipe`.

    text ──compose──▶ tree with lines ──assign_keys──▶ canonical settings ──Recipe──▶ checked
           yaml_tree                    settings_tree                       schema, *settings

Each module is a single step. All problems of a recipe are reported together, each with its line
(`validation_problems`); `--set` options are merged on the way (`overrides`). The functions of `writing` can
also be imported from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loraloom.errors import Problem, RecipeError
from loraloom.recipe.legacy import CHECKS_SINCE_0_1, is_of_0_1, meant_by_run
from loraloom.recipe.notes import identical_experiments, judge_script_keys, no_selection
from loraloom.recipe.overrides import apply_overrides
from loraloom.recipe.relative_paths import starting_folder
from loraloom.recipe.schema import Recipe
from loraloom.recipe.settings_tree import Note, Setting, SettingsTree, assign_keys
from loraloom.recipe.typos import nearest
from loraloom.recipe.validation_problems import problems_of
from loraloom.recipe.writing import commented_recipe, recipe_schema, write_recipe
from loraloom.recipe.yaml_tree import MAX_CHARACTERS, Node, compose
from loraloom.text.message import Message
from loraloom.text.visible import printable, shown_value

__all__ = [
    "Note",
    "Reading",
    "checks_newer_than",
    "commented_recipe",
    "parse_recipe",
    "parse_recipe_with_notes",
    "read_recipe",
    "read_recipe_with_notes",
    "read_run_recipe",
    "recipe_schema",
    "shipped_recipes",
    "write_recipe",
]

_SHIPPED = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True)
class Reading:
    """A recipe, and the notes from reading it.

    Args:
        recipe: validated, with every default.
        notes: what was moved, has no effect, or may be a mistake.
    """

    recipe: Recipe
    notes: tuple[Note, ...]


def read_recipe(path: Path | str, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe from a file; relative paths in it are resolved against the file's folder.

    Args:
        path: the file, or the name of a built-in recipe, e.g. `article`.
        sets: `key=value` options, which replace values in the file.

    Raises:
        RecipeError: the file cannot be read or is not a valid recipe; lists everything that is wrong.
    """
    return read_recipe_with_notes(path, sets).recipe


def read_recipe_with_notes(
    path: Path | str, sets: Sequence[str] = (), *, resumed: Path | None = None
) -> Reading:
    """Read a recipe like `read_recipe`, and return it with its notes.

    Args:
        path, sets: as in `read_recipe`.
        resumed: recipe.yaml of the run that is resumed with this recipe; a setting that is in neither gets
            the value that corresponds to the behaviour of the version that created the run.
    """
    file = _find(path)
    is_shipped = file.parent == _SHIPPED
    name = file.name if is_shipped else printable(str(path), 200)
    is_of_run = resumed == file  # its YAML is read once, which takes longer than all the rest
    # A damaged file contributes nothing; the command repairs or refuses it.
    stated = {} if resumed is None or is_of_run else _stated(resumed)
    older = meant_by_run(stated) if stated else {}
    text = _decode(_read_bytes(file), name)
    recipe, notes = _understand(text, name, sets, older, is_of_run=is_of_run)
    # A built-in recipe refers to the user's files, not to files inside the package.
    beside = resumed if is_shipped else file
    return Reading(recipe if beside is None else recipe.in_folder(starting_folder(beside)), notes)


def read_run_recipe(path: Path) -> Recipe:
    """Read a run's recipe.yaml; settings that are newer than the run get values that keep its behaviour.

    Raises:
        RecipeError: the file cannot be read or is not a valid recipe; lists everything that is wrong.
    """
    return read_recipe_with_notes(path, resumed=path).recipe


def checks_newer_than(run_recipe: Path) -> frozenset[str]:
    """Return the data checks that did not exist when a run started, according to its recipe.yaml."""
    stated = _stated(run_recipe)
    return CHECKS_SINCE_0_1 if stated and is_of_0_1(stated) else frozenset()


def parse_recipe(text: str, *, name: str, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe from text; relative paths in it are resolved against the working directory.

    Args:
        text: YAML.
        name: what messages call the text.
        sets: `key=value` options, which replace values in the text.

    Raises:
        RecipeError: lists everything that is wrong with the recipe.
    """
    return _understand(text, name, sets)[0]


def parse_recipe_with_notes(text: str, *, name: str, sets: Sequence[str] = ()) -> Reading:
    """Read a recipe like `parse_recipe`, and return it with its notes."""
    return Reading(*_understand(text, name, sets))


def shipped_recipes() -> dict[str, Path]:
    """Return the built-in recipes: name -> file."""
    return {file.stem: file for file in sorted(_SHIPPED.glob("*.yaml"))}


def _find(path: Path | str) -> Path:
    file, shipped = Path(path), shipped_recipes()
    try:
        if file.is_file():
            return file
        if str(path) in shipped:
            return shipped[str(path)]
        if file.exists() and not file.is_dir():
            return file  # for example a pipe
        is_folder = file.is_dir()
        neighbours = [
            str(file.with_name(other.name))
            for other in (file if is_folder else file.parent).glob("*")
            if other.suffix in (".yaml", ".yml")
        ]
    except (OSError, ValueError) as error:
        raise RecipeError(
            Message("cannot be read: {reason}", reason=_reason(error)), where=printable(str(path), 200)
        ) from None
    if is_folder:
        found = ", ".join(sorted(Path(name).name for name in neighbours)[:5]) or Message(
            "no .yaml file in it"
        )
        raise RecipeError(Message("is a folder, not a recipe"), where=printable(str(path), 200), found=found)
    match = nearest(str(path), [*neighbours, *shipped]) or nearest(f"{path}.yaml", neighbours)
    raise RecipeError(
        Message("there is no such file"),
        where=printable(str(path), 200),
        fix=Message("Did you mean `{match}`?", match=match)
        if match
        else Message("Built-in recipes: {shipped}.", shipped=", ".join(shipped)),
    )


def _read_bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(4 * MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise RecipeError(
            Message("cannot be read: {reason}", reason=_reason(error)), where=printable(str(file), 200)
        ) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(data) > 4 * MAX_CHARACTERS:
            return " " * (MAX_CHARACTERS + 1)  # truncated inside a character, and too long anyway
        looks = Message(", which is how UTF-16 begins") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise RecipeError(
            Message("is not UTF-8 text"),
            where=f"{name}:{data[: error.start].count(10) + 1}",
            found=Message(
                "byte 0x{data} at offset {start}{looks}",
                data=f"{data[error.start]:02x}",
                start=error.start,
                looks=looks,
            ),
            fix=Message("Save the file as UTF-8."),
        ) from None


def _stated(path: Path) -> dict[tuple[str, ...], Any]:
    """Return the settings in a recipe's file by canonical path; empty if it is not a recipe."""
    name = printable(str(path), 200)
    try:
        root, _ = compose(_decode(_read_bytes(path), name), name)
    except RecipeError:
        return {}
    if root is None or not isinstance(root.value, dict):
        return {}
    return _values(assign_keys(root))


def _values(tree: SettingsTree) -> dict[tuple[str, ...], Any]:
    return {key: setting.value for key, setting in tree.settings.items()}


def _understand(
    text: str,
    name: str,
    sets: Sequence[str],
    older: Mapping[tuple[str, ...], Any] | None = None,
    *,
    is_of_run: bool = False,
) -> tuple[Recipe, tuple[Note, ...]]:
    root, problems = compose(text, name)
    tree = assign_keys(_as_mapping(root, name, has_sets=bool(sets)))
    tree.problems = problems + tree.problems
    if is_of_run and tree.settings:
        older = meant_by_run(_values(tree))
    if sets:
        apply_overrides(tree, sets)
    for path, value in (older or {}).items():
        tree.settings.setdefault(path, Setting(value, name, ".".join(path)))
    if tree.script_keys:
        judge_script_keys(tree)
    try:
        recipe = Recipe.model_validate(tree.as_mapping())
    except ValidationError as error:
        tree.problems += problems_of(error, tree, name)
    if tree.problems:
        raise RecipeError(sorted(tree.problems, key=_line))
    notes = list(tree.notes)
    if len(recipe.experiments) > 1:
        notes += identical_experiments(recipe, tree, name)
    if recipe.data.eval == 0:
        notes.append(no_selection(tree, name))
    return recipe, tuple(notes)


def _as_mapping(root: Node | None, name: str, *, has_sets: bool) -> Node:
    if root is None or root.value is None:
        if has_sets:
            return Node({}, name)
        raise RecipeError(
            Message("the recipe is empty"),
            where=name,
            fix=Message("Create one with `loraloom init`; `model_name_or_path` and `data` are required."),
        )
    if not isinstance(root.value, dict):
        raise RecipeError(
            Message("a recipe must be a mapping of settings"),
            where=root.where,
            found=shown_value(root.plain),
            fix=Message("Write one `key: value` per line."),
        )
    return root


def _line(problem: Problem) -> tuple[bool, int]:
    """Return the sort key of a problem: its line in the file; problems of options come last."""
    line = re.search(r":(\d+)$", problem.where)
    return (problem.where.startswith("--set"), int(line[1]) if line else 0)

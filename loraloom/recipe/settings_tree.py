"""The settings of a document under their canonical paths: `lr` at the top is `training.learning_rate`.

`assign_keys` gives every setting its canonical path. Aliases are resolved, a known key in the wrong place is
moved, keys of other scripts are collected separately, and an unknown key is reported with the nearest known
one. The `SettingsTree` records where each setting was given. Values are not validated
here; the models do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loraloom.errors import Problem
from loraloom.recipe.aliases import ALIASES, SECTION_ALIASES, VALUE_ALIASES
from loraloom.recipe.key_problems import not_a_section, not_an_experiment, not_experiments, unknown_key
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import CANONICAL, COLUMNS, FILES, SECTIONS, TEXTS, Path, canonical_path
from loraloom.recipe.values import as_number
from loraloom.recipe.yaml_tree import Node
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value

_EXPERIMENTS = ("experiments",)
# A message shows 20 problems; finding the nearest key for each of 20,000 would take half a minute.
SUGGESTED = 100


@dataclass(frozen=True)
class Note:
    """Something that users should know about a valid recipe.

    Args:
        what: one sentence.
        where: `recipe.yaml:9`, or the option.
        is_warning: whether it may be a mistake.
    """

    what: str
    where: str
    is_warning: bool = False

    def __str__(self) -> str:
        return str(self.as_message())

    def as_message(self) -> Message:
        """Return the whole note as one message."""
        return Message("{where}: {what}", where=self.where, what=self.what)


@dataclass(frozen=True)
class Setting:
    """A setting's value, the place where it is given, and its key as written there."""

    value: Any
    where: str
    written: str


@dataclass
class SettingsTree:
    """A document's settings under their canonical paths.

    Args:
        settings: canonical path -> value and place; the changes that an experiment makes are under
            ("experiments", name of the experiment, …).
        places: path of a section or experiment in the document -> its place.
        emptied: paths of sections and experiments whose value is null.
        script_keys: keys of other scripts, with their places.
    """

    settings: dict[Path, Setting] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    emptied: set[Path] = field(default_factory=set)
    script_keys: list[tuple[str, Setting]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def where(self, path: Path, otherwise: str) -> str:
        """Return the place of a setting or, if it was not given, of the innermost section around it."""
        for length in range(len(path), 0, -1):
            prefix = path[:length]
            if prefix in self.settings:
                return self.settings[prefix].where
            if prefix in self.places:
                return self.places[prefix]
            inside = [setting.where for key, setting in self.settings.items() if key[:length] == prefix]
            if inside:
                return inside[0]
        return otherwise

    def overlay(self, other: SettingsTree) -> None:
        """Replace settings with those of another document; what is null in that document is removed."""
        undone = other.emptied | {path for path, setting in other.settings.items() if setting.value is None}
        for path in undone:
            for known in (self.settings, self.places):
                for key in [key for key in known if key[: len(path)] == path]:
                    del known[key]
        self.settings |= {path: setting for path, setting in other.settings.items() if path not in undone}
        for path, where in other.places.items():
            if path not in undone:
                self.places.setdefault(path, where)
        replaced = {setting.written for _, setting in other.script_keys}
        self.script_keys = [pair for pair in self.script_keys if pair[1].written not in replaced]
        self.script_keys += other.script_keys
        self.problems += other.problems
        self.notes += other.notes

    def as_mapping(self) -> dict[str, object]:
        """Build the nested mapping that `Recipe` validates."""
        root: dict[str, object] = {}
        for path in self.places:
            _descend(root, path)
        for path, setting in self.settings.items():
            _descend(root, path[:-1])[path[-1]] = setting.value
        return root


def _descend(root: dict[str, object], path: Path) -> dict[str, object]:
    for part in path:
        inner = root.setdefault(part, {})
        if not isinstance(inner, dict):
            return {}  # a value instead of a mapping, which the models report
        root = inner
    return root


def assign_keys(root: Node) -> SettingsTree:
    """Assign every setting of a document to its canonical path.

    Args:
        root: a mapping.
    """
    tree = SettingsTree()
    _place_mapping(tree, root, (), "")
    return tree


def nested(path: Sequence[str], node: Node) -> Node:
    """Wrap a value in one mapping for each part of a path."""
    for part in reversed(path):
        node = Node({part: node}, node.where, size=node.size + 1)
    return node


def _place_mapping(tree: SettingsTree, node: Node, experiment: Path, section: str) -> None:
    for key, child in node.value.items():
        if not section and _place_section(tree, key, child, experiment):
            continue
        head, _, rest = key.partition(".")
        if not section and rest and (head in SECTIONS or (head == "experiments" and not experiment)):
            _place_section(tree, head, nested(rest.split("."), child), experiment)
            continue
        _place_key(tree, key, child, experiment, section)


def _place_section(tree: SettingsTree, key: str, child: Node, experiment: Path) -> bool:
    """Assign the settings in a section or in `experiments`; return whether `key` was read as either."""
    if key == "experiments" and not experiment:
        _place_experiments(tree, child)
        return True
    is_mapping = isinstance(child.value, dict)
    section = key if key in SECTIONS else SECTION_ALIASES.get(key, "") if is_mapping else ""
    if not section or not (is_mapping or child.value is None):
        return False
    path = (*experiment, section)
    tree.places.setdefault(path, child.where)
    if is_mapping:
        _place_mapping(tree, child, experiment, section)
    else:
        tree.emptied.add(path)
    return True


def _place_experiments(tree: SettingsTree, node: Node) -> None:
    tree.places[_EXPERIMENTS] = node.where
    if node.value is None:
        tree.emptied.add(_EXPERIMENTS)
    elif not isinstance(node.value, dict):
        tree.problems.append(not_experiments(node))
    else:
        for name, child in node.value.items():
            path = (*_EXPERIMENTS, name)
            tree.places[path] = child.where
            if isinstance(child.value, dict):
                _place_mapping(tree, child, path, "")
            elif child.value is None:
                tree.emptied.add(path)
            else:
                tree.problems.append(not_an_experiment(name, child))


def _place_key(tree: SettingsTree, key: str, child: Node, experiment: Path, section: str) -> None:
    written = _written(key, section, experiment)
    known = (section, key)
    path = CANONICAL[known] if known in CANONICAL else canonical_path(section, key)
    if path is None:
        _place_other(tree, key, child, section, experiment)
    elif path in {(name,) for name in SECTIONS}:
        tree.problems.append(not_a_section(path[0], child))
    elif path == COLUMNS and (child.value is None or isinstance(child.value, dict)):
        tree.places.setdefault((*experiment, *path), child.where)
        if child.value is None:
            tree.emptied.add((*experiment, *path))
        for name, column in (child.value or {}).items():
            _add(tree, (*experiment, *path, name), column, f"{written}.{name}", is_text=True)
    else:
        if section not in ("", path[0]) and f"{section}.{key}" not in ALIASES:
            what = Message(
                "{written} does not belong in `{section}`; it was read as `{path}`",
                written=quoted(written),
                section=section,
                path=".".join(path),
            )
            tree.notes.append(Note(what, child.where))
        _add(tree, (*experiment, *path), child, written, is_text=_is_text(path, child.value))


def _is_text(path: Path, value: Any) -> bool:
    """Return whether a setting is text even if its value looks like a number: a column may be named 2024."""
    in_columns = path[:2] == COLUMNS and len(path) > 2
    return in_columns or path in TEXTS or (path in FILES and not isinstance(value, list))


def _written(key: str, section: str, experiment: Path) -> str:
    return ".".join((*experiment, section, key) if section else (*experiment, key))


def _place_other(tree: SettingsTree, key: str, child: Node, section: str, experiment: Path) -> None:
    """Set aside a key of another script, or report an unknown one."""
    for spelling in (f"{section}.{key}", key):
        if spelling in SCRIPT_KEYS:
            written = _written(key, section, experiment)
            tree.script_keys.append((spelling, Setting(child.plain, child.where, written)))
            return
    suggests = len(tree.problems) < SUGGESTED
    tree.problems.append(unknown_key(section, key, experiment, child.where, suggests=suggests))


def _add(tree: SettingsTree, path: Path, node: Node, written: str, *, is_text: bool) -> None:
    value = node.plain
    if is_text and node.text is not None and value is not None:
        value = node.text  # a column may be named 2024
    setting = Setting(_other_spelling(path, value), node.where, written)
    first = tree.settings.setdefault(path, setting)
    if first is not setting and _meaning(first.value) != _meaning(setting.value):
        tree.problems.append(
            Problem(
                Message(
                    "`{path}` is given twice with different values, here as `{written}` and as "
                    "`{written_2}` at {where}",
                    path=".".join(path),
                    written=written,
                    written_2=first.written,
                    where=first.where,
                ),
                node.where,
                found=Message(
                    "{value} and {value_2}",
                    value=shown_value(setting.value),
                    value_2=shown_value(first.value),
                ),
                fix=Message("Remove one of them."),
            )
        )


def _other_spelling(path: Path, value: Any) -> Any:
    spellings = VALUE_ALIASES.get(".".join(path[-2:] if path[:1] == _EXPERIMENTS else path), {})
    return spellings.get(value, value) if isinstance(value, str | int | float) else value


def _meaning(value: Any) -> Any:
    number = as_number(value) if isinstance(value, str) else None
    return value if number is None else number

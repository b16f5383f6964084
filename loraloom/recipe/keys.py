"""Assignment of a document's keys to canonical settings: `lr` at the top is `training.learning_rate`.

Every setting of the tree gets its canonical path. Aliases are resolved, a known key in the wrong place is
moved, keys of other scripts are set aside, and an unknown key is reported with the nearest known one. Values
are not validated here; the models do that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loraloom.errors import Problem
from loraloom.recipe.aliases import ALIASES, SECTION_ALIASES, VALUE_ALIASES
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import (
    CANONICAL,
    COLUMNS,
    FILES,
    SECTION_EXAMPLES,
    SECTIONS,
    TEXTS,
    Path,
    canonical_path,
    keys_of,
    nearest_key,
)
from loraloom.recipe.settings_tree import Note, Setting, SettingsTree
from loraloom.recipe.values import as_number
from loraloom.recipe.yaml_tree import Node
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value

_EXPERIMENTS = ("experiments",)
# A message shows 20 problems; finding the nearest key for each of 20,000 would take half a minute.
SUGGESTED = 100


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
    """Place a section or the experiments; return whether the key was one."""
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
        tree.problems.append(
            Problem(
                Message(
                    "`experiments` must be a mapping from the name of each experiment to what differs in it"
                ),
                node.where,
                found=shown_value(node.plain),
                fix=Message("Write `experiments: {{slow: {{training: {{learning_rate: 1.0e-4}}}}}}`."),
            )
        )
    else:
        for name, child in node.value.items():
            path = (*_EXPERIMENTS, name)
            tree.places[path] = child.where
            if isinstance(child.value, dict):
                _place_mapping(tree, child, path, "")
            elif child.value is None:
                tree.emptied.add(path)
            else:
                tree.problems.append(
                    Problem(
                        Message("experiment {name} must be a mapping of what differs", name=quoted(name)),
                        child.where,
                        found=shown_value(child.plain),
                        fix=Message(
                            "Write `{{training: {{learning_rate: 1.0e-4}}}}`, or `{{}}` for no difference."
                        ),
                    )
                )


def _place_key(tree: SettingsTree, key: str, child: Node, experiment: Path, section: str) -> None:
    written = _written(key, section, experiment)
    known = (section, key)
    path = CANONICAL[known] if known in CANONICAL else canonical_path(section, key)
    if path is None:
        _place_other(tree, key, child, section, experiment)
    elif path in {(name,) for name in SECTIONS}:
        what = Message("`{path}` must be a mapping of settings", path=path[0])
        fix = Message(
            "Write its settings below it, as in `{section_examples}`.",
            section_examples=SECTION_EXAMPLES[path[0]],
        )
        tree.problems.append(Problem(what, child.where, found=shown_value(child.plain), fix=fix))
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
    """Set aside a key of another script, or report an unknown key with the nearest known one."""
    written = _written(key, section, experiment)
    for spelling in (f"{section}.{key}", key):
        if spelling in SCRIPT_KEYS:
            tree.script_keys.append((spelling, Setting(child.plain, child.where, written)))
            return
    what = Message("unknown key {written}", written=quoted(written))
    if section and key in SECTIONS:
        fix = Message(
            "`{key}` is a separate section; write it outside of `{section}`.", key=key, section=section
        )
        tree.problems.append(Problem(what, child.where, fix=fix))
        return
    suggestion = nearest_key(section, key) if len(tree.problems) < SUGGESTED else ""
    if suggestion:
        tree.problems.append(
            Problem(
                what,
                child.where,
                fix=Message("Did you mean `{value}`?", value=".".join((*experiment, suggestion))),
            )
        )
    else:
        keys = ["lora", "training", "seed"] if experiment and not section else keys_of(section)
        tree.problems.append(Problem(what, child.where, allowed=", ".join(keys)))


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

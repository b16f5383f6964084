"""`--set key=value`: a setting of a recipe, given on the command line.

The key is dotted, and the value is YAML that replaces the value in the file. If the same setting is given
more than once, the last option applies. An empty value or `null` restores the default.
"""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.errors import Problem, RecipeError
from loraloom.recipe.settings_tree import SettingsTree, assign_keys, nested
from loraloom.recipe.yaml_tree import Node, compose
from loraloom.text.message import Message
from loraloom.text.visible import printable

_EXAMPLE = Message("Write it as key=value, e.g. --set training.learning_rate=1e-4.")


def apply_overrides(tree: SettingsTree, sets: Sequence[str]) -> None:
    """Replace settings of a recipe with those of `--set` options; add the options' problems to the tree."""
    for option in sets:
        label = shown_option(option)
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or not all(part.strip() for part in key.split(".")):
            problem = Message("is not a setting") if equals else Message("has no value")
            tree.problems.append(Problem(Message("this {problem}", problem=problem), label, fix=_EXAMPLE))
            continue
        names = [path[1] for path in tree.places if path[:1] == ("experiments",) and len(path) == 2]
        value, problems = _value(text, label)
        tree.overlay(assign_keys(nested(_split(key, names), value)))
        tree.problems += problems


def shown_option(option: str) -> str:
    """Format an option for messages."""
    return Message("--set {option}", option=printable(option))


def _split(key: str, experiments: Sequence[str]) -> list[str]:
    """Split a dotted key; the name of an experiment may itself contain dots.

    >>> _split("experiments.v1.5.seed", ["v1.5"])
    ['experiments', 'v1.5', 'seed']
    """
    head, _, rest = key.partition(".")
    if head == "experiments":
        for name in sorted(experiments, key=len, reverse=True):
            if rest == name or rest.startswith(f"{name}."):
                return [head, name, *rest[len(name) + 1 :].split(".")] if rest != name else [head, name]
    return key.split(".")


def _value(text: str, label: str) -> tuple[Node, list[Problem]]:
    """Parse a value as YAML, but keep its text for settings whose values are text.

    `--set data.source_prefix='translate: {text}'` is a mapping in YAML, but a prefix to the user.
    """
    try:
        node, problems = compose(text, label, has_lines=False)
    except RecipeError:
        node, problems = Node(text, label), []
    if node is None or node.value is None:
        return Node(None, label), problems
    if problems or text.lstrip()[:1] in ("'", '"'):
        return node, problems
    return Node(node.value, label, text=text, size=node.size), problems

"""`--set key=value`: one setting of a recipe, given on the command line.

The key is written with dots, the value as YAML. What it says takes the place of what the file says;
of two options for one setting the later holds, as command lines have it; an empty value, or `null`,
goes back to the default.
"""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.errors import Problem, RecipeError
from loraloom.recipe.keys import SettingsTree, assign_keys, nested
from loraloom.recipe.yaml_tree import Node, compose
from loraloom.text.visible import printable

_EXAMPLE = "Write it as key=value, e.g. --set training.learning_rate=1e-4."


def apply_overrides(placed: SettingsTree, sets: Sequence[str]) -> None:
    """Let options take the place of a document's settings; what is wrong with them joins its problems."""
    for option in sets:
        label = shown_option(option)
        key, equals, text = option.partition("=")
        key = key.strip()
        if not equals or not all(part.strip() for part in key.split(".")):
            problem = "is not a setting" if equals else "gives no value"
            placed.problems.append(Problem(f"this {problem}", label, fix=_EXAMPLE))
            continue
        names = [path[1] for path in placed.places if path[:1] == ("experiments",) and len(path) == 2]
        value, problems = _value(text, label)
        placed.overlay(assign_keys(nested(_split(key, names), value)))
        placed.problems += problems


def shown_option(option: str) -> str:
    """An option as messages name it."""
    return f"--set {printable(option)}"


def _split(key: str, experiments: Sequence[str]) -> list[str]:
    """The parts of a dotted key; an experiment's name may hold dots itself.

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
    """A value with its own text kept, for settings that are text whatever they look like as YAML.

    `--set data.source_prefix='translate: {text}'` is a mapping to YAML, and a prefix to everyone else.
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

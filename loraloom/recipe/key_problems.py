"""Problems with keys in a recipe: unknown keys, and keys with a single value instead of settings."""

from __future__ import annotations

from loraloom.errors import Problem
from loraloom.recipe.setting_names import SECTION_EXAMPLES, SECTIONS, Path, keys_of, nearest_key
from loraloom.recipe.yaml_tree import Node
from loraloom.text.message import Message
from loraloom.text.visible import quoted, shown_value


def not_a_section(section: str, node: Node) -> Problem:
    """Describe the problem with a section that has a single value instead of settings."""
    return Problem(
        Message("`{path}` must be a mapping of settings", path=section),
        node.where,
        found=shown_value(node.plain),
        fix=Message(
            "Write its settings below it, as in `{section_examples}`.",
            section_examples=SECTION_EXAMPLES[section],
        ),
    )


def not_experiments(node: Node) -> Problem:
    """Describe the problem with the key `experiments`: its value is not a mapping."""
    return Problem(
        Message("`experiments` must be a mapping from the name of each experiment to what differs in it"),
        node.where,
        found=shown_value(node.plain),
        fix=Message("Write `experiments: {{slow: {{training: {{learning_rate: 1.0e-4}}}}}}`."),
    )


def not_an_experiment(name: str, node: Node) -> Problem:
    """Describe the problem with an experiment that is not a mapping."""
    return Problem(
        Message("experiment {name} must be a mapping of the settings that it changes", name=quoted(name)),
        node.where,
        found=shown_value(node.plain),
        fix=Message("Write `{{training: {{learning_rate: 1.0e-4}}}}`, or `{{}}` for no difference."),
    )


def unknown_key(section: str, key: str, experiment: Path, where: str, *, suggests: bool) -> Problem:
    """Describe the problem with an unknown key, and suggest a fix.

    Args:
        section: section that contains the key; "" for the top level.
        key, where: the key, and its location in the file.
        experiment: path of the experiment that contains the key; empty outside of experiments.
        suggests: whether to look for the nearest known key.
    """
    in_section = (section, key) if section else (key,)
    what = Message("unknown key {written}", written=quoted(".".join((*experiment, *in_section))))
    if section and key in SECTIONS:
        fix = Message(
            "`{key}` is a separate section; write it outside of `{section}`.", key=key, section=section
        )
        return Problem(what, where, fix=fix)
    suggestion = nearest_key(section, key) if suggests else ""
    if suggestion:
        fix = Message("Did you mean `{value}`?", value=".".join((*experiment, suggestion)))
        return Problem(what, where, fix=fix)
    keys = ["lora", "training", "seed"] if experiment and not section else keys_of(section)
    return Problem(what, where, allowed=", ".join(keys))

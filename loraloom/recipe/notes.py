"""Notes on a recipe: keys of other scripts, and settings that are rarely intended."""

from __future__ import annotations

from typing import Any

from loraloom.errors import Problem
from loraloom.recipe.schema import Recipe
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import FIELDS
from loraloom.recipe.settings_tree import Note, Setting, SettingsTree
from loraloom.text.message import Message
from loraloom.text.visible import shown_value


def identical_experiments(recipe: Recipe, tree: SettingsTree, name: str) -> list[Note]:
    """Return a note on each experiment that has the same settings as an earlier one."""
    found = []
    seen: dict[str, str] = {}
    for experiment in recipe.resolved_experiments:
        settings = repr((experiment.lora, experiment.training, experiment.seed))
        twin = seen.setdefault(settings, experiment.name)
        if twin != experiment.name:
            where = tree.where(("experiments", experiment.name), name)
            what = Message("experiment `{name}` is identical to `{twin}`", name=experiment.name, twin=twin)
            found.append(Note(what, where, is_warning=True))
    return found


def no_selection(tree: SettingsTree, name: str) -> Note:
    """Return a note that the recipe has no eval rows, so no checkpoint is selected."""
    what = Message(
        "`data.eval` is 0, so no checkpoint is selected, and each adapter is the one after the last step"
    )
    return Note(what, tree.where(("data", "eval"), name), is_warning=True)


def judge_script_keys(tree: SettingsTree) -> None:
    """Accept keys from other scripts, with a note, if they would change nothing; refuse the rest."""
    for key, given in tree.script_keys:
        known = SCRIPT_KEYS[key]
        value = _script_value(given.value)
        said = Message("`{written}: {shown}`", written=given.written, shown=_shown(given.value))
        needed, values = known.needs
        if known.allowed is None:
            tree.notes.append(
                Note(Message("{said} has no effect: {reason}", said=said, reason=known.reason), given.where)
            )
        elif value not in known.allowed:
            tree.problems.append(_refused(said, given, known.reason, known.fix, known.allowed))
        elif (
            needed
            and not isinstance(value, list | dict)
            and value in values
            and _setting(tree, needed) not in values[value]
        ):
            what = Message(
                "{said} contradicts `{needed}: {shown}`; {reason}",
                said=said,
                needed=needed,
                shown=_shown(_setting(tree, needed)),
                reason=known.reason,
            )
            tree.problems.append(Problem(what, given.where, fix=known.fix))
        else:
            tree.notes.append(
                Note(
                    Message("{said} is what happens anyway: {reason}", said=said, reason=known.reason),
                    given.where,
                )
            )


def _refused(said: str, given: Setting, reason: str, fix: str, allowed: tuple[Any, ...]) -> Problem:
    better = fix or (
        Message("Leave it out, or write {shown}.", shown=_shown(allowed[0]))
        if allowed
        else Message("Leave it out.")
    )
    return Problem(Message("{said} is refused: {reason}", said=said, reason=reason), given.where, fix=better)


def _script_value(value: Any) -> Any:
    """Convert texts that stand for None, false or true, such as Python's `None` or a quoted `'true'`."""
    words = {"none": None, "null": None, "false": False, "true": True}
    return words.get(value.lower(), value) if isinstance(value, str) and value != "none" else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() and len(value) < 60 else shown_value(value)


def _setting(tree: SettingsTree, key: str) -> Any:
    path = tuple(key.split("."))
    return tree.settings[path].value if path in tree.settings else FIELDS[path].default

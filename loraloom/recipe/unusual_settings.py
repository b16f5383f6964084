"""Notes on settings that are valid but rarely intended."""

from __future__ import annotations

from typing import Any

from loraloom.recipe.keys import Note, SettingsTree
from loraloom.recipe.schema import Recipe


def unusual_settings(recipe: Recipe, placed: SettingsTree, name: str) -> list[Note]:
    """Return notes on settings that are valid but rarely intended."""
    found = []
    seen: dict[Any, str] = {}
    for experiment in recipe.resolved_experiments:
        settings = repr((experiment.lora, experiment.training, experiment.seed))
        twin = seen.setdefault(settings, experiment.name)
        if twin != experiment.name:
            where = placed.where(("experiments", experiment.name), name)
            what = f"experiment `{experiment.name}` is identical to `{twin}`"
            found.append(Note(what, where, is_warning=True))
    if recipe.data.eval == 0:
        what = "`data.eval` is 0, so no checkpoint is selected and each adapter is the last one"
        found.append(Note(what, placed.where(("data", "eval"), name), is_warning=True))
    return found

"""The devices of a run that have an experiment to train."""

from __future__ import annotations

from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.text.message import Message


def devices_in_use(recipe: Recipe, known: Provenance | None = None) -> list[str]:
    """Return the first of a recipe's `devices`: no more than there are experiments, or trials of a search.

    A further process would load the base and then wait, while the others train with fewer threads.

    Args:
        recipe: the recipe.
        known: provenance of its run; None if there is no run.
    """
    request = None if known is None else known.search
    num = len(recipe.resolved_experiments) if request is None else request.trials
    return recipe.devices[:num]


def device_notes(recipe: Recipe, known: Provenance | None = None) -> list[str]:
    """Return a note if not all of a recipe's `devices` are used; arguments as in `devices_in_use`."""
    used, listed = devices_in_use(recipe, known), recipe.devices
    if len(used) == len(listed):
        return []
    if len(used) == 1:
        said = Message(
            "`devices` lists {num_listed} devices for one experiment, which trains on one device, so only "
            "{used} will be used",
            num_listed=len(listed),
            used=used[0],
        )
    else:
        said = Message(
            "`devices` lists {num_listed} devices for {num_used} experiments, each of which trains on one "
            "device, so only {used} will be used",
            num_listed=len(listed),
            num_used=len(used),
            used=", ".join(used),
        )
    return [said]

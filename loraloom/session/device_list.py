"""The devices of a run that have an experiment to train."""

from __future__ import annotations

from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.text.message import Message


def devices_in_use(recipe: Recipe, known: Provenance | None = None) -> list[str]:
    """Return the first of a recipe's `devices`: for a training, no more than there are experiments.

    A further process would load the base and then wait, while the others train with fewer threads. A search
    uses all of them, because its number of trials can be raised when it is resumed.

    Args:
        recipe: the recipe.
        known: the provenance of its run; None if it has no run yet.
    """
    if known is not None and known.search is not None:
        return recipe.devices
    return recipe.devices[: len(recipe.resolved_experiments)]


def device_notes(recipe: Recipe) -> list[str]:
    """Return a note if a training does not use all of a recipe's `devices`."""
    num_used, num_listed = len(devices_in_use(recipe)), len(recipe.devices)
    if num_used == num_listed:
        return []
    if num_used == 1:
        return [
            Message(
                "`devices` lists {num_listed} devices for one experiment, which trains on one device, so "
                "`train` uses only the first",
                num_listed=num_listed,
            )
        ]
    return [
        Message(
            "`devices` lists {num_listed} devices for {num_used} experiments, each of which trains on one "
            "device, so `train` uses only the first {num_used}",
            num_listed=num_listed,
            num_used=num_used,
        )
    ]

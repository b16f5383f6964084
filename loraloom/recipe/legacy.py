"""What a setting means that a run's own recipe.yaml does not have, because the run is older than the setting.

A run's recipe.yaml has every default written out, so a default that changes later reaches new recipes
only. A setting that is new since then is the exception: its default is chosen for new recipes, and an
old run keeps what it was trained with.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

# Canonical path of the setting -> what LoRALoom 0.1, which did not have it, did.
MEANT_IN_0_1: dict[tuple[str, ...], Any] = {
    ("data", "source_truncation"): "right",
}


def unstated(stated: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], Any]:
    """The settings that a run's recipe.yaml does not have, with what they mean there.

    Args:
        stated: canonical paths of the settings that it has.
    """
    return {path: value for path, value in MEANT_IN_0_1.items() if path not in stated}

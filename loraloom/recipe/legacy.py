"""What a setting means that a run's own recipe.yaml does not have, because the run is older than the setting.

A run's recipe.yaml has every default written out, so a default that changes later reaches new recipes
only. A setting that is new since then is the exception: its default is chosen for new recipes, and an
old run keeps what it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Canonical path of the setting -> what LoRALoom 0.1, which did not have it, did.
MEANT_IN_0_1: dict[tuple[str, ...], Any] = {
    ("data", "quoting"): "csv",  # in a TSV too, which knows none by itself
    ("data", "number_format"): "python",
    ("data", "answer_weights"): False,
    ("data", "context_columns"): False,
    ("data", "source_truncation"): "right",
}


# Settings of 0.1 whose default is another one now: a recipe that leaves them out and resumes a run means
# what the run's recipe.yaml says.
DEFAULTS_CHANGED: frozenset[tuple[str, ...]] = frozenset({("generation", "max_new_tokens")})

# Checks of the data that 0.1 did not have: what a run was begun with cannot keep it from being resumed.
CHECKS_SINCE_0_1 = frozenset({"same-sources"})


def meant_by_run(stated: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    """What settings mean that a recipe leaves out, if it resumes a run or is the run's own.

    Args:
        stated: settings that the run's recipe.yaml has, by their canonical paths.
    """
    newer = {path: value for path, value in MEANT_IN_0_1.items() if path not in stated}
    return newer | {path: stated[path] for path in DEFAULTS_CHANGED if path in stated}


def is_of_0_1(stated: Mapping[tuple[str, ...], Any]) -> bool:
    """Whether a run's recipe.yaml lacks a setting that came after 0.1."""
    return any(path not in stated for path in MEANT_IN_0_1)

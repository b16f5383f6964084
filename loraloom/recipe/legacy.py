"""Values of settings that are missing from the recipe.yaml of older runs.

A run's recipe.yaml contains every default, so a default that changes later affects only new recipes.
Settings that were added after the run are missing from the file: their defaults are chosen for new recipes,
whereas an older run keeps the behaviour it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Canonical path of a setting -> behaviour of LoRALoom 0.1, which did not have it.
MEANT_IN_0_1: dict[tuple[str, ...], Any] = {
    ("data", "quoting"): "csv",  # also in a TSV, which has no quoting of its own
    ("data", "number_format"): "python",
    ("data", "answer_weights"): False,
    ("data", "context_columns"): False,
    ("data", "source_truncation"): "right",
    ("training", "cuda_graphs"): False,  # which draws dropout in another way
}


# Settings of 0.1 whose default has changed: if a recipe omits them and resumes a run, the value in the run's
# recipe.yaml applies.
DEFAULTS_CHANGED: frozenset[tuple[str, ...]] = frozenset({("generation", "max_new_tokens")})

# Data checks that 0.1 did not have; what a run started with must not prevent it from being resumed.
CHECKS_SINCE_0_1 = frozenset({"same-sources"})


def meant_by_run(stated: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    """Return values for settings that are missing from a run's recipe, or from a recipe that resumes the run.

    Args:
        stated: settings in the run's recipe.yaml, by their canonical paths.
    """
    newer = {path: value for path, value in MEANT_IN_0_1.items() if path not in stated}
    return newer | {path: stated[path] for path in DEFAULTS_CHANGED if path in stated}


def is_of_0_1(stated: Mapping[tuple[str, ...], Any]) -> bool:
    """Return whether a run's recipe.yaml lacks a setting that was added after 0.1."""
    return any(path not in stated for path in MEANT_IN_0_1)

"""The trials of a search as a table of settings and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.run.documents.search import Trial
from loraloom.text.units import NONE, figure, percent, setting


def table(
    trials: Sequence[Trial], metric: str, importances: Mapping[str, float]
) -> tuple[list[str], list[list[str]]]:
    """Build columns and rows; the settings that vary are columns, with their importance if known.

    Args:
        trials: in the order of the rows.
        metric: name of the figure.
        importances: share by dotted key.
    """
    keys = list(trials[0].parameters)
    columns = ["trial", "status", metric, *(_column(key, keys, importances) for key in keys), "best step"]
    return columns, [[*_cells(trial, keys)] for trial in trials]


def _cells(trial: Trial, keys: Sequence[str]) -> list[str]:
    reached = figure(trial.figure)
    best = NONE if trial.best_step is None else f"{trial.best_step} of {trial.steps}"
    return [trial.name, trial.status, reached, *(setting(trial.parameters[key]) for key in keys), best]


def _column(key: str, keys: Sequence[str], importances: Mapping[str, float]) -> str:
    """Name a column by its key, without the section if that is unambiguous, and its importance."""
    name = key.rpartition(".")[2]
    own = name if sum(other.rpartition(".")[2] == name for other in keys) == 1 else key
    return f"{own} ({percent(importances[key])})" if key in importances else own

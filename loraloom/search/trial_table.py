"""The trials of a search as a table of settings and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.run.documents.search import Trial
from loraloom.run.documents.words import shown_word
from loraloom.text.message import Message
from loraloom.text.units import NONE, figure, percent, setting


def table(
    trials: Sequence[Trial], metric: str, importances: Mapping[str, float]
) -> tuple[list[str], list[list[str]]]:
    """Build column headings and rows; each setting that varies has a column, with its importance if known.

    Args:
        trials: trials in the order of the rows.
        metric: name of the figure.
        importances: importance of each setting, as a share, by dotted key.
    """
    keys = list(trials[0].parameters)
    columns = [
        Message("trial"),
        Message("status"),
        metric,
        *(_column(key, keys, importances) for key in keys),
        Message("best step"),
    ]
    return columns, [[*_cells(trial, keys)] for trial in trials]


def _cells(trial: Trial, keys: Sequence[str]) -> list[str]:
    reached = figure(trial.figure)
    best = (
        NONE
        if trial.best_step is None
        else Message("{step} of {num_steps}", step=trial.best_step, num_steps=trial.steps)
    )
    return [
        trial.name,
        shown_word(trial.status),
        reached,
        *(setting(trial.parameters[key]) for key in keys),
        best,
    ]


def _column(key: str, keys: Sequence[str], importances: Mapping[str, float]) -> str:
    """Return a column's heading: the key, without its section if that is unambiguous, and the importance."""
    name = key.rpartition(".")[2]
    own = name if sum(other.rpartition(".")[2] == name for other in keys) == 1 else key
    if key not in importances:
        return own
    return Message("{setting} ({share})", setting=own, share=percent(importances[key]))

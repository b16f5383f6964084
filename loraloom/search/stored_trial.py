"""Trials, settings and values as Optuna's database stores them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from loraloom.run.documents.search import Parameters
from loraloom.search.space import DECIMALS, Dimension


@dataclass
class StoredTrial:
    """A trial as the database stores it.

    Args:
        labels: values of its settings, as converted by `label`.
        rungs: the rungs that have a stored figure; each is a percentage of the trial's steps.
        is_finished: whether it has ended.
    """

    labels: Parameters
    rungs: set[int]
    is_finished: bool

    @classmethod
    def of(cls, frozen: FrozenTrial) -> StoredTrial:
        """Convert one of Optuna's trials."""
        return cls(frozen.params, set(frozen.intermediate_values), frozen.state.is_finished())


def distribution(dimension: Dimension) -> BaseDistribution:
    """Convert a dimension to an Optuna distribution."""
    if dimension.choices:
        return CategoricalDistribution([label(choice) for choice in dimension.choices])
    if dimension.is_integer:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def label(value: Any) -> Any:
    """Convert a choice for Optuna: a list to JSON text, anything else unchanged."""
    return json.dumps(value) if isinstance(value, list) else value


def value_of(dimension: Dimension, drawn: Any) -> Any:
    """Convert what Optuna has drawn back to a value of the recipe."""
    if dimension.choices:
        return next(choice for choice in dimension.choices if label(choice) == drawn)
    return round(drawn, DECIMALS) if dimension.step is not None and not dimension.is_integer else drawn

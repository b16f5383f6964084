"""What a search may vary: one dimension a setting, and the combinations of all."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loraloom.recipe import Experiment, Recipe
from loraloom.run.documents.search import Parameters

# Of a value that is so many steps above the low end: 0.15 and not 0.15000000000000002.
DECIMALS = 12


@dataclass(frozen=True)
class Dimension:
    """One setting that varies: over choices, or over a range.

    Args:
        key: `lora.r`, `training.learning_rate`, `seed`.
        where: its line of the space's file.
        choices: in the file's order; empty where it is a range.
        low, high: the ends of a range, both of which can be drawn.
        step: between the values of a range; None where it is continuous.
        log: whether the range is even in the logarithm.
        is_integer: whether its values are whole numbers.
    """

    key: str
    where: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    is_integer: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """The key's parts."""
        return tuple(self.key.split("."))

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that stand for all: every choice, or both ends."""
        return self.choices or (self.low, self.high)

    @property
    def is_finite(self) -> bool:
        """Whether its values can be listed."""
        return bool(self.choices) or self.step is not None

    @property
    def size(self) -> int:
        """How many values it has, where it is finite."""
        if self.choices:
            return len(self.choices)
        return round((self.high - self.low) / (self.step or 1)) + 1

    def values(self) -> Iterator[Any]:
        """All of them, where it is finite."""
        if self.choices:
            yield from self.choices
            return
        step = self.step or 1
        for number in range(self.size):
            value = self.low + number * step
            yield int(value) if self.is_integer else round(value, DECIMALS)

    def to_json(self) -> Any:
        """As SPACE.yaml may say it, every value read."""
        if self.choices:
            return list(self.choices)
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **step, "log": self.log}


@dataclass(frozen=True)
class Space:
    """What a search may vary.

    Args:
        dimensions: in the file's order.
        text: of the file, for the run's own copy.
        notes: what a person should know about it.
    """

    dimensions: tuple[Dimension, ...]
    text: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """How many combinations there are; None where they cannot be counted."""
        if not all(dimension.is_finite for dimension in self.dimensions):
            return None
        return math.prod(dimension.size for dimension in self.dimensions)

    def combinations(self) -> Iterator[Parameters]:
        """All of them, where they can be counted: `{"lora.r": 8, …}`."""
        keys = [dimension.key for dimension in self.dimensions]
        for values in itertools.product(*(dimension.values() for dimension in self.dimensions)):
            yield dict(zip(keys, values, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Key → choices or range."""
        return {dimension.key: dimension.to_json() for dimension in self.dimensions}


def with_experiments(recipe: Recipe, experiments: dict[str, Any]) -> Recipe:
    """The recipe with other experiments.

    Raises:
        ValidationError: they do not go with it.
    """
    return recipe.revised({"experiments": experiments})


def experiments_of(recipe: Recipe, parameters: dict[str, Parameters]) -> tuple[Experiment, ...]:
    """The experiments of some combinations, by name.

    Raises:
        ValidationError: the settings of one do not go together.
    """
    changes = {name: nested_changes(own) for name, own in parameters.items()}
    return with_experiments(recipe, changes).resolved_experiments


def nested_changes(parameters: Parameters) -> dict[str, Any]:
    """An experiment's changes from dotted keys.

    >>> nested_changes({"lora.r": 8, "seed": 1})
    {'lora': {'r': 8}, 'seed': 1}
    """
    changes: dict[str, Any] = {}
    for key, value in parameters.items():
        section, _, name = key.rpartition(".")
        (changes.setdefault(section, {}) if section else changes)[name] = value
    return changes


def probe_experiments(space: Space) -> dict[str, Any]:
    """An experiment for every value that stands for all, named after it: `lora.r-4096`."""
    probes: dict[str, Any] = {}
    for dimension in space.dimensions:
        for value in dimension.probes:
            text = "-".join(value) if isinstance(value, list) else str(value)
            name = re.sub(r"[^\w.\-]+", "-", f"{dimension.key}-{text}")[:56].strip("-")
            while name.casefold() in map(str.casefold, probes):
                name += "-"
            probes[name] = nested_changes({dimension.key: value})
    return probes


def heaviest(space: Space, weight: Callable[[str, Any], float]) -> Parameters:
    """Of every dimension the value that weighs most, together one combination."""
    return {d.key: max(d.probes, key=lambda value: weight(d.key, value)) for d in space.dimensions}

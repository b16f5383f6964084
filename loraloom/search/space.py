"""A search space: one dimension per setting, and their combinations."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from loraloom.recipe import Experiment, Recipe
from loraloom.run.documents.document import JsonObject
from loraloom.run.documents.search import Parameters

# Rounds a value that is a number of steps above the low end, to get 0.15 and not 0.15000000000000002.
DECIMALS = 12


@dataclass(frozen=True)
class Dimension:
    """One setting that varies, over choices or over a range.

    Args:
        key: `lora.r`, `training.learning_rate`, `seed`.
        where: file and line where it is specified.
        choices: choices in the order of the file; empty for a range.
        low, high: ends of a range, both inclusive.
        step: distance between the values of a range; None if it is continuous.
        log: whether values are drawn on a logarithmic scale.
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
        """Parts of the key."""
        return tuple(self.key.split("."))

    @property
    def probes(self) -> tuple[Any, ...]:
        """Representative values: every choice, or both ends."""
        return self.choices or (self.low, self.high)

    @property
    def is_finite(self) -> bool:
        """Whether the setting has finitely many values."""
        return bool(self.choices) or self.step is not None

    @property
    def size(self) -> int:
        """Number of values, if there are finitely many."""
        if self.choices:
            return len(self.choices)
        return round((self.high - self.low) / (self.step or 1)) + 1

    def values(self) -> Iterator[Any]:
        """Iterate over all values, if there are finitely many."""
        if self.choices:
            yield from self.choices
            return
        step = self.step or 1
        for number in range(self.size):
            value = self.low + number * step
            yield int(value) if self.is_integer else round(value, DECIMALS)

    def to_json(self) -> Any:
        """Convert to the JSON form of its entry in SPACE.yaml."""
        if self.choices:
            return list(self.choices)
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **step, "log": self.log}


@dataclass(frozen=True)
class Space:
    """The settings that a search may vary.

    Args:
        dimensions: dimensions in the order of the file.
        text: text of the file, for the run's own copy.
        notes: what the user should know about it.
    """

    dimensions: tuple[Dimension, ...]
    text: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """Number of combinations; None if there are infinitely many."""
        if not all(dimension.is_finite for dimension in self.dimensions):
            return None
        return math.prod(dimension.size for dimension in self.dimensions)

    def combinations(self) -> Iterator[Parameters]:
        """Iterate over all combinations, if there are finitely many: `{"lora.r": 8, …}`."""
        keys = [dimension.key for dimension in self.dimensions]
        for values in itertools.product(*(dimension.values() for dimension in self.dimensions)):
            yield dict(zip(keys, values, strict=True))

    def to_json(self) -> JsonObject:
        """Convert to a mapping of key → choices or range."""
        return {dimension.key: dimension.to_json() for dimension in self.dimensions}


def with_experiments(recipe: Recipe, experiments: JsonObject) -> Recipe:
    """Replace the experiments of a recipe.

    Raises:
        ValidationError: the experiments are invalid in combination with the recipe.
    """
    return recipe.revised({"experiments": experiments})


def experiments_of(recipe: Recipe, parameters: dict[str, Parameters]) -> tuple[Experiment, ...]:
    """Build an experiment for each named combination of settings.

    Raises:
        ValidationError: the settings of an experiment are invalid in combination.
    """
    changes = {name: nested_changes(own) for name, own in parameters.items()}
    return with_experiments(recipe, changes).resolved_experiments


def nested_changes(parameters: Parameters) -> JsonObject:
    """Convert settings with dotted keys to the nested mapping that an experiment in a recipe has.

    >>> nested_changes({"lora.r": 8, "seed": 1})
    {'lora': {'r': 8}, 'seed': 1}
    """
    changes: JsonObject = {}
    for key, value in parameters.items():
        section, _, name = key.rpartition(".")
        (changes.setdefault(section, {}) if section else changes)[name] = value
    return changes


def probe_experiments(space: Space) -> JsonObject:
    """Build an experiment for every representative value, named after it: `lora.r-4096`."""
    probes: JsonObject = {}
    for dimension in space.dimensions:
        for value in dimension.probes:
            text = "-".join(value) if isinstance(value, list) else str(value)
            name = re.sub(r"[^\w.\-]+", "-", f"{dimension.key}-{text}")[:56].strip("-")
            while name.casefold() in map(str.casefold, probes):
                name += "-"
            probes[name] = nested_changes({dimension.key: value})
    return probes


def heaviest(space: Space, weight: Callable[[str, Any], float]) -> Parameters:
    """Map the key of each dimension to its representative value with the largest weight."""
    return {d.key: max(d.probes, key=lambda value: weight(d.key, value)) for d in space.dimensions}

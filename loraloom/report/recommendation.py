"""The configuration to take, as a recipe of its own, under the sentence that justifies it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from loraloom.data.files.data_names import STARTER, is_on_disk
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.recipe import Recipe
from loraloom.recipe.reading import write_recipe
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.search_view import SearchView
from loraloom.text.visible import visible

_WIDTH = 100


@dataclass(frozen=True)
class Advice:
    """What to take.

    Args:
        experiment: None where nothing should be taken before another.
        sentence: why; empty where nothing has been compared.
    """

    experiment: str | None
    sentence: str


def advice_of(recipe: Recipe, compared: ComparisonView | None, searched: SearchView | None) -> Advice:
    """What the comparison recommends; where there is none, what the search found."""
    if compared is not None and compared.recommendation:
        advice = Advice(compared.recommended, compared.recommendation)
    elif searched is not None and searched.best is not None:
        advice = Advice(searched.best, searched.sentence)
    else:
        return Advice(None, "")
    names = {experiment.group for experiment in recipe.resolved_experiments}
    is_there = advice.experiment is None or advice.experiment in names
    return advice if is_there else Advice(None, "")


def only(recipe: Recipe, group: str) -> Recipe:
    """One experiment of a recipe as a recipe by itself: it trains the same adapter, from the same seeds."""
    own = next(each for each in recipe.resolved_experiments if each.group == group)
    changes = {"lora": own.lora, "training": own.training, "seed": own.seed, "experiments": {}}
    return recipe.revised(recipe.model_copy(update=changes).model_dump())


def with_paths(recipe: Recipe) -> Recipe:
    """A recipe that can lie anywhere: what it names relative to its folder, named in full."""

    def in_full(name: str) -> str:
        return str(recipe.locations.path_of(name)) if is_on_disk(name, recipe.locations) else name

    tree = recipe.model_dump()
    places = [(tree, "model_name_or_path"), (tree["lora"], "init_adapter")]
    places += [(tree["data"], key) for key in ("train", "eval", "test", "retain")]
    for section, key in places:
        if isinstance(section[key], str):
            section[key] = in_full(section[key])
        elif isinstance(section[key], list):
            section[key] = [in_full(name) for name in section[key]]
    return Recipe.model_validate(tree)


def not_found(recipe: Recipe) -> str:
    """Which names of data have no file any more, in a sentence; empty if all have."""
    values = [
        v
        for key in ("train", "eval", "test", "retain")
        if isinstance(v := getattr(recipe.data, key), str | list)
    ]
    names = [name for value in values for name in ([value] if isinstance(value, str) else value)]
    lost = [
        name
        for name in names
        if name != STARTER and not name.startswith(HUB_PREFIX) and not is_on_disk(name, recipe.locations)
    ]
    if not lost:
        return ""
    return (
        f"Not in {recipe.folder} any more, and named as the run names it: {', '.join(dict.fromkeys(lost))}."
    )


def commented(recipe: Recipe, *comments: str) -> str:
    """A recipe as YAML below some sentences, whatever those hold."""
    lines = [
        f"# {line}\n"
        for comment in comments
        for line in textwrap.wrap(" ".join(visible(comment).split()), _WIDTH, break_on_hyphens=False)
    ]
    return "".join(lines) + write_recipe(recipe)

"""The recommended configuration as a separate recipe, with the sentence that justifies it."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.data.files.data_names import STARTER, is_on_disk
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.recipe import Recipe
from loraloom.recipe.reading import write_recipe
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.search_view import SearchView
from loraloom.text.catalogue import rendered
from loraloom.text.line_breaks import lines_of
from loraloom.text.message import Message
from loraloom.text.visible import visible

_WIDTH = 100


@dataclass(frozen=True)
class Advice:
    """The experiment that a report recommends, and why.

    Args:
        experiment: the recommended experiment or best trial; None if none is preferable.
        sentence: the reason; "" if nothing was compared or searched.
    """

    experiment: str | None
    sentence: str


def advice_of(recipe: Recipe, compared: ComparisonView | None, searched: SearchView | None) -> Advice:
    """Return the recommendation of the comparison or, without one, the result of the search."""
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
    """Extract one experiment as a separate recipe, which trains the same adapter from the same seeds."""
    own = next(each for each in recipe.resolved_experiments if each.group == group)
    changes = {"lora": own.lora, "training": own.training, "seed": own.seed, "experiments": {}}
    return recipe.revised(recipe.model_copy(update=changes).model_dump())


def with_paths(recipe: Recipe) -> Recipe:
    """Return a recipe with absolute paths to the files that exist, so that it can be stored anywhere."""

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
    """Return a sentence that lists the data files of a recipe that no longer exist; "" if all exist."""
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
    return Message(
        "These data files are no longer in {folder}, so the recipe names them as the run did: {names}.",
        folder=recipe.folder,
        names=", ".join(dict.fromkeys(lost)),
    )


def commented(recipe: Recipe, *comments: str) -> str:
    """Write a recipe as YAML, with comments at the top; the comments may contain any text."""
    lines = [f"# {line}\n" for comment in comments for line in lines_of(visible(rendered(comment)), _WIDTH)]
    return "".join(lines) + write_recipe(recipe)

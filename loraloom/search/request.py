"""A request for a search, validated before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from loraloom.errors import Problem, RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.typos import nearest
from loraloom.run.documents.provenance import SearchRequest
from loraloom.search.space import Space
from loraloom.text.message import Message

SAMPLERS = ("tpe", "random", "grid")
LARGEST_GRID = 100_000
# The TPE learns from earlier rounds, so there must be some.
ROUNDS_OF_TPE = 4
FEWEST_TOGETHER = 4

# Files in the run of a search: the requested space, and the best trial as a recipe.
SPACE_FILE = "space.yaml"
BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class Request:
    """A validated request for a search.

    Args:
        recipe: the recipe that the space varies; it has no experiments.
        space: the settings that may vary.
        num_trials: number of adapters to train; at most the number of combinations.
        sampler: one of `SAMPLERS`.
        halving: whether to stop the worse half of the trials early.
        notes: what the user should know.
    """

    recipe: Recipe
    space: Space
    num_trials: int
    sampler: str
    halving: bool
    notes: tuple[str, ...] = ()

    @property
    def most_together(self) -> int:
        """Maximum number of trials that may train together, regardless of memory."""
        if self.sampler != "tpe":
            return self.num_trials
        return min(self.num_trials, max(FEWEST_TOGETHER, -(-self.num_trials // ROUNDS_OF_TPE)))

    def as_document(self) -> SearchRequest:
        """Convert to a document for provenance.json, which a resumed search must match."""
        return SearchRequest(
            space=self.space.to_json(), trials=self.num_trials, sampler=self.sampler, halving=self.halving
        )


def make_request(
    recipe: Recipe, space: Space, *, num_trials: int, sampler: str | None = None, halving: bool = False
) -> Request:
    """Validate a request; the sampler is tpe by default.

    Raises:
        RecipeError: lists everything that is wrong with it.
    """
    sampler = sampler or "tpe"
    problems = [*_recipe_problems(recipe), *_option_problems(num_trials, sampler), *_unjudged(space)]
    if sampler == "grid":
        problems += _grid_problems(space)
    if problems:
        raise RecipeError(problems)
    notes = list(space.notes)
    if space.size is not None and num_trials > space.size:
        notes.append(
            Message(
                "the space has {size} combinations, so {size} trials are run, not {num_trials}",
                size=space.size,
                num_trials=num_trials,
            )
        )
        num_trials = space.size
    elif sampler == "grid" and space.size is not None and num_trials < space.size:
        notes.append(
            Message(
                "{num_trials} of the grid's {size:,} combinations are tried; the seed decides which",
                num_trials=num_trials,
                size=space.size,
            )
        )
    return Request(recipe, space, num_trials, sampler, halving, tuple(notes))


def _recipe_problems(recipe: Recipe) -> list[Problem]:
    problems = []
    if recipe.experiments:
        what = Message("a search makes its experiments from the space, but the recipe has its own")
        names = ", ".join(recipe.experiments)
        problems.append(
            Problem(what, "experiments", found=names, fix=Message("Remove them with `--set experiments=`."))
        )
    if recipe.seeds > 1:
        fix = Message("Use `--set seeds=1`, and afterwards `loraloom train RUN/best.yaml --seeds 3`.")
        problems.append(
            Problem(
                Message("a search trains each trial with only one seed"), "seeds", str(recipe.seeds), fix=fix
            )
        )
    if recipe.data.eval == 0:
        what = Message("a search needs eval rows to judge its trials")
        problems.append(Problem(what, "data.eval", fix=Message("Set data.eval: 0.1.")))
    if recipe.training.eval_strategy == "no":
        what = Message("a search needs evaluations to judge its trials")
        problems.append(
            Problem(what, "training.eval_strategy", fix=Message("Set training.eval_strategy: epoch."))
        )
    return problems


def _unjudged(space: Space) -> list[Problem]:
    what = Message("a trial without evaluations cannot be judged")
    return [
        Problem(what, dimension.where, found="eval_strategy: no", fix=Message("Remove the choice `no`."))
        for dimension in space.dimensions
        if dimension.key == "training.eval_strategy" and "no" in dimension.choices
    ]


def _option_problems(num_trials: int, sampler: str) -> list[Problem]:
    problems = []
    if num_trials < 1:
        problems.append(
            Problem(Message("there must be at least one trial"), "--trials", found=str(num_trials))
        )
    if sampler not in SAMPLERS:
        near = nearest(sampler, SAMPLERS)
        fix = Message("Did you mean `{near}`?", near=near) if near else ""
        problems.append(
            Problem(Message("the sampler is unknown"), "--sampler", sampler, ", ".join(SAMPLERS), fix)
        )
    return problems


def _grid_problems(space: Space) -> list[Problem]:
    problems = []
    for dimension in space.dimensions:
        if not dimension.is_finite:
            fix = (
                Message("List its values: `[…, …]`")
                if dimension.log
                else Message("Add a `step`, list its values")
            )
            fix = Message("{fix}, or use `--sampler random`.", fix=fix)
            problems.append(
                Problem(
                    Message("the grid is infinite, because `{key}` is continuous", key=dimension.key),
                    dimension.where,
                    fix=fix,
                )
            )
    if not problems and (space.size or 0) > LARGEST_GRID:
        allowed = Message("at most {largest_grid:,} combinations", largest_grid=LARGEST_GRID)
        found = f"{space.size:,}"
        problems.append(
            Problem(
                Message("the grid is too large"),
                "--sampler grid",
                found,
                allowed,
                Message("Use `random` or `tpe`."),
            )
        )
    return problems

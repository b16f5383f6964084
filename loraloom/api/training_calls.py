"""Functions that prepare or start a run: init, find-lr, train, search, demo."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loraloom.api.arguments import AnyRecipe, as_path, read, token
from loraloom.recipe import Recipe
from loraloom.results import (
    CompareResult,
    DemoResult,
    SearchResult,
    TrainResult,
    TrialResult,
)
from loraloom.run.events import Report, quiet
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest
from loraloom.workers.ray_options import RayOptions

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue

    from loraloom.run.documents.range_test import RangeTest
    from loraloom.search.request import Request


def init(
    data: Path | str | Sequence[Path | str],
    model: str = "starter",
    *,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
) -> str:
    """Examine data files, and return a commented recipe for them.

    Args:
        data: files or folders, as the recipe should name them.
        model: a folder, a hub name, or `starter`.
        columns: the column for each role, if not recognized automatically: `{"instruction": "question"}`.
        sets: settings of `data`, each as `key=value`.
        report: called with notes.

    Returns:
        The recipe as YAML.

    Raises:
        LoRALoomError: the data or the model is unusable, or the roles of the columns are unclear.
    """
    from loraloom.commands.init import init_recipe

    named = [data] if isinstance(data, Path | str) else list(data)
    pairs = [f"{role}={column}" for role, column in (columns or {}).items()]
    return init_recipe([Path(each) for each in named], model, columns=pairs, sets=sets, report=report)


def find_learning_rate(
    recipe: AnyRecipe,
    *,
    out: Path | str | None = None,
    allowed: Collection[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> RangeTest:
    """Train a recipe's first experiment for some steps at each of eight learning rates, all together.

    Args:
        recipe: the recipe; its learning rate is not used.
        out: the folder to create; by default a new one below `runs/`.
        allowed: names of data checks whose errors are reported as warnings.
        report: called with every step.
        stop: if it is set, nothing is left behind.

    Raises:
        LoRALoomError: recipe, data or base is unusable, a check of the data finds an error, or there are no
            eval rows.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.find_lr import find_learning_rate as find

    return find(read(recipe, report), out=as_path(out), allowed=allowed, report=report, stop=token(stop))


def train(
    recipe: AnyRecipe | None = None,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    allowed: Collection[str] = (),
    base: Path | str | None = None,
    data: Path | str | None = None,
    ray: RayOptions | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all experiments of a recipe together.

    Args:
        recipe: recipe to train; may be omitted to resume a run.
        out: the run directory; by default a new one below `runs/`.
        resume: a run to resume, instead of a new one.
        allowed: names of checks whose errors are reported as warnings.
        base, data: current location of a resumed run's base and data, if they were moved.
        ray: address of a Ray cluster whose workers train instead of this process: `auto`, `local` or
            `HOST:PORT`; or a `RayOptions` to set other options too.
        report: called with every event: `report(TrainStep(step=…, loss=…, …))`.
        stop: if it is set, the step is finished and saved; the run can be resumed.

    Raises:
        TypeError: neither a recipe nor a run to resume is given.
        LoRALoomError: recipe, data, base or run is unusable, or every experiment failed.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.train import train as run_training

    outcome = run_training(
        _recipe_to_train(recipe, resume, report),
        out=as_path(out),
        resume=as_path(resume),
        allowed=allowed,
        base=as_path(base),
        data=as_path(data),
        ray=_cluster(ray),
        report=report,
        stop=token(stop),
    )
    return TrainResult.of(outcome.run.folder, outcome.result)


def run_search(
    recipe: AnyRecipe | None = None,
    space: Mapping[str, Any] | Path | str | None = None,
    *,
    trials: int | None = None,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    halving: bool = False,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    allowed: Collection[str] = (),
    base: Path | str | None = None,
    data: Path | str | None = None,
    ray: RayOptions | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> SearchResult:
    """Train many variants of a recipe together, and find the best, like the command `loraloom search`.

    Args:
        recipe: the recipe to vary; it must define no experiments.
        space: choices or a range for each key, such as `{"lora.r": [4, 8]}`; or a YAML file with these.
        trials: number of adapters to train.
        sampler: how the settings of each trial are chosen.
        halving: whether to stop the worse half of the trials early.
        out: the run directory; by default a new one below `runs/`.
        resume: a run to resume, instead of a new one, of the same search or of one that differs only in
            having fewer trials; if recipe, space and trials are omitted, those of the run are used.
        allowed, base, data, ray, report, stop: as in `train`.

    Raises:
        TypeError: recipe, space or trials is missing, unless all are omitted to resume a run.
        LoRALoomError: recipe, space, data, base or run is unusable, or every trial failed.
        Interrupted: `stop` was set; the search can be resumed.
    """
    from loraloom.commands.search import search

    if recipe is None and space is None and trials is None and resume is not None:
        request = _request_to_resume(Path(resume))
    elif recipe is None or space is None or trials is None:
        raise TypeError("run_search() needs a recipe, a space and trials, or only a run to resume")
    else:
        request = _new_request(read(recipe, report, resumed=as_path(resume)), space, trials, sampler, halving)
    found = search(
        request,
        out=as_path(out),
        resume=as_path(resume),
        allowed=allowed,
        base=as_path(base),
        data=as_path(data),
        ray=_cluster(ray),
        report=report,
        stop=token(stop),
    )
    ranked = tuple(
        TrialResult(**{name: getattr(trial, name) for name in TrialResult.__dataclass_fields__})
        for trial in found.ledger.trials_ranked
    )
    return SearchResult(found.run.folder, found.ledger.metric, ranked, found.importances)


def _cluster(ray: RayOptions | str | None) -> RayOptions | None:
    return RayOptions(ray) if isinstance(ray, str) else ray


def _request_to_resume(resume: Path) -> Request:
    from loraloom.run.folder import open_run
    from loraloom.session.search_request import request_of_run

    return request_of_run(open_run(resume))


def _new_request(
    recipe: Recipe, space: Mapping[str, Any] | Path | str, trials: int, sampler: str, halving: bool
) -> Request:
    from loraloom.search.request import make_request
    from loraloom.search.space_file import parse_space, read_space

    varied = (
        parse_space(json.dumps(dict(space)), name=Message("space"), recipe=recipe)
        if isinstance(space, Mapping)
        else read_space(Path(space), recipe)
    )
    return make_request(recipe, varied, num_trials=trials, sampler=sampler, halving=halving)


def demo(
    *, out: Path | str | None = None, report: Report = quiet, stop: StopRequest | None = None
) -> DemoResult:
    """Train an adapter on the embedded starter, compare it with the base, and write the report, all offline.

    Args:
        out: the run directory; by default a new one below `runs/`.
        report: called with every event.
        stop: as in `train` and `compare`.

    Raises:
        Interrupted: `stop` was set.
    """
    from loraloom.commands.demo import demo as run_demo

    shown = run_demo(out=as_path(out), report=report, stop=token(stop))
    return DemoResult(
        shown.run.folder,
        CompareResult.of(shown.comparison),
        CompareResult.of(shown.prompts),
        shown.report_file,
    )


def recipe_schema() -> JsonSchemaValue:
    """Return the JSON Schema of a recipe, for editors and forms."""
    from loraloom.recipe.writing import recipe_schema as schema

    return schema()


def _recipe_to_train(recipe: AnyRecipe | None, resume: Path | str | None, report: Report) -> Recipe:
    if recipe is not None:
        return read(recipe, report, resumed=as_path(resume))
    if resume is None:
        raise TypeError("train() needs a recipe or a run to resume")
    from loraloom.run.folder import open_run
    from loraloom.session.provenance import run_recipe

    return run_recipe(open_run(Path(resume)))[0]

"""All commands as functions, for notebooks, programs and servers: typed results, stop tokens, events.

    import loraloom

    result = loraloom.train("recipe.yaml", report=print)
    print(loraloom.compare(result.run).sentences)

No function here writes to the terminal or installs a signal handler. `report` is called with every event as
it happens; `stop` is a `StopRequest`, which any thread may set: the function then saves and raises
`Interrupted`. Inside `with stop_on_signals() as stop`, SIGINT and SIGTERM set it, as on the command line.

Torch is imported when a function that needs it is called. Two functions have different names from their
commands, because parts of the package have these names: `run_search` and `write_report`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loraloom.errors import Interrupted, LoRALoomError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_recipe, read_recipe_with_notes
from loraloom.results import (
    Answer,
    CardResult,
    CheckResult,
    CompareResult,
    DemoResult,
    MergeResult,
    RunSummary,
    SearchResult,
    TrainResult,
    TrialResult,
)
from loraloom.run.events import Event, Note, Report, WarningNote, quiet
from loraloom.run.folder import RUNS_FOLDER
from loraloom.training.signals import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from loraloom.run.documents.range_test import RangeTest

__all__ = [
    "Event",
    "Interrupted",
    "LoRALoomError",
    "Recipe",
    "StopRequest",
    "card",
    "check",
    "compare",
    "demo",
    "find_learning_rate",
    "init",
    "merge",
    "predict",
    "read_recipe",
    "recipe_schema",
    "run_search",
    "runs",
    "stop_on_signals",
    "train",
    "write_report",
]

AnyRecipe = Recipe | Path | str
"""A recipe, its file, or the name of a built-in recipe."""


def init(
    data: Path | str | Sequence[Path | str],
    model: str = "starter",
    *,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
) -> str:
    """Examine data files and write a commented recipe for them.

    Args:
        data: files or folders, as the recipe should name them.
        model: a folder, a hub name, or `starter`.
        columns: role -> column, if the columns are not recognised: `{"instruction": "question"}`.
        sets: settings of `data`, each `key=value`.
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


def check(
    recipe: AnyRecipe,
    *,
    deep: bool = False,
    allowed: Collection[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CheckResult:
    """Run every check on a recipe, without training.

    Args:
        recipe: the recipe to check.
        deep: also memorize one batch, which takes a while.
        allowed: names of checks whose errors become warnings.
        report: called with notes.
        stop: checked between parts of the work.

    Raises:
        LoRALoomError: recipe, data or base cannot be read.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.check import examine

    found = examine(_read(recipe, report), allowed=allowed, deep=deep, report=report, stop=_token(stop))
    return CheckResult(tuple(found.findings), tuple(found.batch))


def find_learning_rate(
    recipe: AnyRecipe,
    *,
    out: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> RangeTest:
    """Train a recipe's first experiment for some steps at each of eight learning rates, in one pass.

    Args:
        recipe: its own learning rate is not used.
        out: the folder to create; by default a new one below `runs/`.
        report: called with every step.
        stop: if it is set, nothing is left behind.

    Raises:
        LoRALoomError: recipe, data or base is unusable, or there are no eval rows.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.find_lr import find_learning_rate as find

    return find(_read(recipe, report), out=_path(out), report=report, stop=_token(stop))


def train(
    recipe: AnyRecipe | None = None,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    allowed: Collection[str] = (),
    base: Path | str | None = None,
    data: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all experiments of a recipe together.

    Args:
        recipe: recipe to train; may be omitted to resume a run.
        out: the run directory; by default a new one below `runs/`.
        resume: a run to resume, instead of a new one.
        allowed: names of checks whose errors become warnings.
        base, data: present location of a resumed run's base and data, if they were moved.
        report: called with every event: `report(TrainStep(step=…, loss=…, …))`.
        stop: if it is set, the step is finished and saved; the run can be resumed.

    Raises:
        LoRALoomError: recipe, data, base or run is unusable, or every experiment failed.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.train import train as run_training

    outcome = run_training(
        _recipe_to_train(recipe, resume, report),
        out=_path(out),
        resume=_path(resume),
        allowed=allowed,
        base=_path(base),
        data=_path(data),
        report=report,
        stop=_token(stop),
    )
    return TrainResult.of(outcome.run.folder, outcome.result)


def run_search(
    recipe: AnyRecipe,
    space: Mapping[str, Any] | Path | str,
    *,
    trials: int,
    sampler: Literal["tpe", "random", "grid"] = "tpe",
    halving: bool = False,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    allowed: Collection[str] = (),
    base: Path | str | None = None,
    data: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> SearchResult:
    """Try many settings of a recipe in one pass, and find the best: the command `loraloom search`.

    Args:
        recipe: what the space varies; it has no experiments.
        space: key -> choices or range, `{"lora.r": [4, 8]}`; or the YAML file of it.
        trials: number of adapters to train.
        sampler: how to choose trials.
        halving: whether to stop the worse half of the trials early.
        out: the run directory; by default a new one below `runs/`.
        resume: a run of the same search to resume, instead of a new one.
        allowed, base, data, report, stop: as in `train`.

    Raises:
        LoRALoomError: recipe, space, data, base or run is unusable, or every trial failed.
        Interrupted: `stop` was set; the search can be resumed.
    """
    from loraloom.commands.search import search
    from loraloom.search.request import make_request
    from loraloom.search.space_file import parse_space, read_space

    settings = _read(recipe, report, resumed=_path(resume))
    varied = (
        parse_space(json.dumps(dict(space)), name="space", recipe=settings)
        if isinstance(space, Mapping)
        else read_space(Path(space), settings)
    )
    found = search(
        make_request(settings, varied, num_trials=trials, sampler=sampler, halving=halving),
        out=_path(out),
        resume=_path(resume),
        allowed=allowed,
        base=_path(base),
        data=_path(data),
        report=report,
        stop=_token(stop),
    )
    ranked = tuple(
        TrialResult(**{name: getattr(trial, name) for name in TrialResult.__dataclass_fields__})
        for trial in found.ledger.trials_ranked
    )
    return SearchResult(found.run.folder, found.ledger.metric, ranked, found.importances)


def compare(
    run: Path | str,
    *,
    split: Literal["eval", "test"] | None = None,
    prompts: Sequence[str] = (),
    prompts_file: Path | str | None = None,
    experiments: Sequence[str] | None = None,
    name: str | None = None,
    base: Path | str | None = None,
    data: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> CompareResult:
    """Answer the same rows with the base and its adapters in one pass.

    Args:
        run: the run directory.
        split: the rows to answer; by default `test` if the run has test rows, else `eval`.
        prompts, prompts_file: other rows to answer instead, as text or in a file.
        experiments: experiments whose adapters answer; by default all.
        name: name of the file in the run's `compare/`; by default that of what was compared.
        base, data: present location of the run's base and data, if they were moved.
        report: called with progress: `report(AnswerProgress(done=…, total=…))`.
        stop: if it is set, the answers so far are kept, and the same call resumes the comparison.

    Raises:
        LoRALoomError: the run, its data or its adapters are unusable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.compare import compare as run_comparison

    return CompareResult.from_json(
        run_comparison(
            Path(run),
            split=split,
            prompts=prompts,
            prompts_file=_path(prompts_file),
            experiments=experiments,
            name=name,
            base=_path(base),
            data=_path(data),
            report=report,
            stop=_token(stop),
        )
    )


def predict(
    run: Path | str,
    file: Path | str,
    *,
    experiment: str | None = None,
    keep: Sequence[str] = (),
    base: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> Iterator[Answer]:
    """Answer every row of a file.

    Args:
        run: the run directory.
        file: a data file, a text file with one prompt per line, or a folder or pattern of these.
        experiment: experiment whose adapter answers; `base` for the base.
        keep: columns to keep with the answers, in addition to an id.
        base: present location of the run's base, if it was moved.
        report: called with progress.
        stop: if it is set, the iterator raises.

    Yields:
        Answers in the order of the file, as they are generated, after run and file have been read.

    Raises:
        LoRALoomError: the run or the file is unusable.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.predict import predict as run_prediction

    lines = run_prediction(
        Path(run),
        Path(file),
        experiment=experiment,
        keep=keep,
        base=_path(base),
        report=report,
        stop=_token(stop),
    )
    return map(Answer.from_json, lines)


def merge(
    run: Path | str,
    out: Path | str,
    *,
    experiment: str | None = None,
    dtype: Literal["float32", "bfloat16"] | None = None,
    base: Path | str | None = None,
    data: Path | str | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> MergeResult:
    """Merge an adapter into its base as a plain transformers folder, and verify that it is equal.

    Args:
        run: the run directory.
        out: the folder to create; it must not exist.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        dtype: dtype to save in; by default that of the base's own files.
        base, data: present location of the run's base and data, if they were moved.
        report: called with progress and notes.
        stop: if it is set, nothing is left at `out`.

    Raises:
        LoRALoomError: the run, adapter or base is unusable, `out` exists, or the proof failed.
        Interrupted: `stop` was set.
    """
    from loraloom.commands.merge import merge as run_merge

    made = run_merge(
        Path(run),
        Path(out),
        experiment=experiment,
        dtype=dtype,
        base=_path(base),
        data=_path(data),
        report=report,
        stop=_token(stop),
    )
    return MergeResult(
        folder=Path(made["folder"]),
        experiment=made["experiment"],
        dtype=made["dtype"],
        dtype_reason=made["dtype_reason"],
        num_bytes=made["bytes"],
        movement=made["movement"],
        proof=made["proof"],
        notes=tuple(made["notes"]),
    )


def card(run: Path | str, *, experiment: str | None = None, out: Path | str | None = None) -> CardResult:
    """Write a model card for one adapter.

    Args:
        run: the run directory.
        experiment: experiment of the adapter; may be omitted if the run has only one.
        out: the file to write, replaced if it exists.

    Raises:
        LoRALoomError: it is not a run, it has no such adapter, or the file cannot be written.
    """
    from loraloom.commands.card import card as make_card

    made = make_card(Path(run), experiment=experiment, out=_path(out))
    return CardResult(made["experiment"], made["card"], _path(made["file"]))


def write_report(
    run: Path | str,
    format: Literal["html", "md", "json", "csv", "recipe"] = "html",
    *,
    out: Path | str | None = None,
    comparison: str | None = None,
    report: Report = quiet,
) -> Path:
    """Write the results of a run to one file: the command `loraloom report`.

    Args:
        run: the run directory; it may be unfinished.
        format: format of the file; `recipe` is only the recommended configuration.
        out: the file; by default `report.*` in the run.
        comparison: name of the comparison to show; by default test rows, else eval rows, else prompts.
        report: called with notes.

    Returns:
        The path of the file.

    Raises:
        LoRALoomError: it is not a run, or the file cannot be written.
    """
    from loraloom.commands.report import write_report as write

    return write(Path(run), format, _path(out), comparison, report)


def runs(folder: Path | str = RUNS_FOLDER) -> tuple[RunSummary, ...]:
    """List the runs in a folder, oldest first."""
    from loraloom.commands.runs import describe_runs

    return tuple(
        RunSummary(
            run=Path(row["run"]),
            status=row["status"],
            experiments=tuple(filter(None, row["experiments"].split(", "))),
            started=row["started"],
            base=row["base"],
        )
        for row in describe_runs(Path(folder))
    )


def demo(
    *, out: Path | str | None = None, report: Report = quiet, stop: StopRequest | None = None
) -> DemoResult:
    """Train on the embedded starter, compare it with its base, and write the report; offline.

    Args:
        out: the run directory; by default a new one below `runs/`.
        report: called with every event.
        stop: as in `train` and `compare`.

    Raises:
        Interrupted: `stop` was set.
    """
    from loraloom.commands.demo import demo as run_demo

    shown = run_demo(out=_path(out), report=report, stop=_token(stop))
    return DemoResult(
        shown.run.folder,
        CompareResult.from_json(shown.comparison),
        CompareResult.from_json(shown.prompts),
        shown.report_file,
    )


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe, for editors and forms."""
    from loraloom.recipe.writing import recipe_schema as schema

    return schema()


def _token(stop: StopRequest | None) -> StopRequest:
    """Return the caller's token, or one that nobody sets, so that no signal handlers are installed."""
    return StopRequest() if stop is None else stop  # one that is not set is false


def _path(value: Path | str | None) -> Path | None:
    return None if value is None else Path(value)


def _read(recipe: AnyRecipe, report: Report, *, resumed: Path | None = None) -> Recipe:
    """Return a recipe as given or read it from its file, reporting notes."""
    if isinstance(recipe, Recipe):
        return recipe
    from loraloom.run.folder import Run

    own = None if resumed is None else Run(resumed).recipe_file
    reading = read_recipe_with_notes(recipe, resumed=own if own is not None and own.is_file() else None)
    for note in reading.notes:
        report((WarningNote if note.is_warning else Note)(message=str(note)))
    return reading.recipe


def _recipe_to_train(recipe: AnyRecipe | None, resume: Path | str | None, report: Report) -> Recipe:
    if recipe is not None:
        return _read(recipe, report, resumed=_path(resume))
    if resume is None:
        raise TypeError("train() needs a recipe or a run to resume")
    from loraloom.run.folder import open_run
    from loraloom.session.provenance import run_recipe

    return run_recipe(open_run(Path(resume)))[0]

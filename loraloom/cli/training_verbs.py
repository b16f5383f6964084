"""Commands that train: train, search, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli.rank_steps import on_ranks
from loraloom.cli.shared_options import (
    Allow,
    AsJson,
    MovedBase,
    MovedData,
    NewRun,
    OnRay,
    RayCpus,
    RecipeOrNone,
    Sampler,
    SendFiles,
    Sets,
    ToResume,
)
from loraloom.cli.verb_steps import (
    command,
    displayed,
    importing,
    moved_words,
    print_json,
    ray_options,
    read,
    split_for_run,
)
from loraloom.distributed.launch import require_known_place
from loraloom.run.documents.words import shown_word
from loraloom.text.message import Message
from loraloom.text.units import NONE, figure

if TYPE_CHECKING:
    from loraloom.recipe import Recipe
    from loraloom.run.documents.result import ExperimentResult

SOME_FAILED = 3  # exit code if some, but not all, experiments failed


def train(
    recipe: RecipeOrNone = None,
    sets: Sets = [],  # noqa: B006
    out: NewRun = None,
    resume: ToResume = None,
    seeds: Annotated[
        int | None, typer.Option(help=Message("Number of seeds to train each experiment with."))
    ] = None,
    ray: OnRay = None,
    ray_cpus: RayCpus = None,
    send_files: SendFiles = False,
    allow: Allow = [],  # noqa: B006
    base: MovedBase = None,
    data: MovedData = None,
    as_json: AsJson = False,
) -> None:
    """Train all experiments of a recipe together."""
    _refuse_both(out, resume)
    _refuse_moved(resume, base, data)
    if recipe is None and resume is None:
        raise typer.BadParameter(Message("give a recipe, or --resume RUN"))
    cluster = ray_options(ray, ray_cpus, send_files)
    require_known_place()
    with displayed(as_json) as display:
        if cluster is not None:
            cluster.require_cluster()
        sets = sets if seeds is None else [*sets, f"seeds={seeds}"]
        settings = read(recipe, sets, display, resume=resume) if recipe else _read_own(resume, sets)
        split = None if resume else split_for_run(settings, allow, display)
        from loraloom.console import print_table

        with importing():
            from loraloom.commands.train import train as run_training

        outcome = run_training(
            settings,
            out=out,
            resume=resume,
            split=split,
            allowed=allow,
            base=base,
            data=data,
            ray=cluster,
            report=display,
        )
        display.close()
        if display.is_silent:
            pass
        elif as_json:
            print_json({"run": str(outcome.run.folder), **outcome.result.to_json()})
        else:
            print_table(
                (
                    Message("experiment"),
                    Message("status"),
                    Message("steps"),
                    Message("best step"),
                    Message("best figure"),
                    Message("adapter"),
                ),
                [
                    _experiment_row(outcome.run.folder, name, entry)
                    for name, entry in outcome.result.experiments.items()
                ],
            )
        if not display.is_silent:
            compared = command("compare", outcome.run.folder, *moved_words(base, data))
            display.next_command(on_ranks(compared, shares_base=settings.training.shard_base))
        if outcome.failed:
            raise typer.Exit(SOME_FAILED)


def _refuse_both(out: Path | None, resume: Path | None) -> None:
    if out is not None and resume is not None:
        raise typer.BadParameter(
            Message("--out cannot be combined with --resume, which continues in the existing run")
        )


def _refuse_moved(resume: Path | None, base: Path | None, data: Path | None) -> None:
    if resume is None and (base is not None or data is not None):
        raise typer.BadParameter(
            Message(
                "--base and --data require --resume; for a new run, use --set "
                "model_name_or_path=FOLDER and --set data.train=FILE"
            )
        )


def _read_own(run: Path | None, sets: list[str]) -> Recipe:
    """Read the recipe stored in the run that is resumed; refuse `--set` and `--seeds`."""
    from loraloom.run.folder import open_run

    with importing():
        from loraloom.session.provenance import run_recipe

    if sets:
        raise typer.BadParameter(
            Message(
                "--set and --seeds cannot be combined with --resume, because a resumed run keeps its settings"
            )
        )
    assert run is not None
    return run_recipe(open_run(run))[0]


def _experiment_row(folder: Path, name: str, entry: ExperimentResult) -> tuple[str, ...]:
    adapter = NONE if entry.status == "failed" else str(folder / "adapters" / name)
    return (
        name,
        shown_word(entry.status),
        str(entry.step),
        str(entry.best_step),
        figure(entry.best_metric),
        adapter,
    )


def search(
    recipe: RecipeOrNone = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help=Message("A YAML file that lists keys of the recipe and the values that each may take.")
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help=Message("Number of adapters to train."))] = None,
    sampler: Sampler = None,
    halving: Annotated[
        bool, typer.Option("--halving", help=Message("Stop the worse half of the trials early."))
    ] = False,
    sets: Sets = [],  # noqa: B006
    out: NewRun = None,
    resume: ToResume = None,
    join: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help=Message(
                "Take part in a search that another process runs, on this machine or on one that "
                "shares its files; RECIPE and all options but --base, --data and --json are then omitted."
            ),
        ),
    ] = None,
    ray: OnRay = None,
    ray_cpus: RayCpus = None,
    send_files: SendFiles = False,
    allow: Allow = [],  # noqa: B006
    base: MovedBase = None,
    data: MovedData = None,
    as_json: AsJson = False,
) -> None:
    """Try many settings of a recipe in one pass, and find the best."""
    if join is not None:
        given = {"RECIPE": recipe, "--space": space, "--trials": trials, "--halving": halving, "--set": sets}
        given |= {"--sampler": sampler, "--out": out, "--resume": resume, "--allow": allow}
        given |= {"--ray": ray, "--ray-cpus": ray_cpus, "--send-files": send_files}
        _join(join, [name for name, value in given.items() if value], base, data, as_json)
        return
    _refuse_both(out, resume)
    _refuse_moved(resume, base, data)
    if recipe is None or space is None or trials is None:
        raise typer.BadParameter(
            Message("give a recipe, --space and --trials; or --join RUN, to take part in a search")
        )
    cluster = ray_options(ray, ray_cpus, send_files)
    with displayed(as_json) as display:
        if cluster is not None:
            cluster.require_cluster()
        settings = read(recipe, sets, display, resume=resume)
        from loraloom.search.request import make_request
        from loraloom.search.space_file import read_space

        values = read_space(space, settings)
        request = make_request(settings, values, num_trials=trials, sampler=sampler, halving=halving)
        split = None if resume else split_for_run(settings, allow, display)
        from loraloom.console import print_table
        from loraloom.search.trial_table import table

        with importing():
            from loraloom.commands.search import search as run_search

        found = run_search(
            request,
            out=out,
            resume=resume,
            split=split,
            allowed=allow,
            base=base,
            data=data,
            ray=cluster,
            report=display,
        )
        display.close()
        if as_json:
            print_json(found.to_json())
        else:
            print_table(*table(found.ledger.trials_ranked, found.ledger.metric, found.importances))
        display.next_command(
            command("compare", found.run.folder, "--experiment", found.best.name, *moved_words(base, data))
        )
        if found.ledger.failed:
            raise typer.Exit(SOME_FAILED)


def _join(run: Path, given: list[str], base: Path | None, data: Path | None, as_json: bool) -> None:
    """Join a search that another process started, and train some of its experiments."""
    if given:
        raise typer.BadParameter(
            Message(
                "--join cannot be combined with {given}, because the search has its own settings",
                given=", ".join(given),
            )
        )
    with displayed(as_json) as display:
        with importing():
            from loraloom.workers.join import join_run

        num_waves = join_run(run, base=base, data=data, report=display)
        display.close()
        if as_json:
            print_json({"run": str(run), "waves": num_waves})


def demo(
    out: NewRun = None,
    as_json: AsJson = False,
) -> None:
    """Run checks, training, comparison and report on the embedded starter, offline."""
    with displayed(as_json) as display:
        from loraloom.console import print_answers, print_comparison

        with importing():
            from loraloom.commands.demo import demo as run_demo

        shown = run_demo(out=out, report=display)
        if as_json:
            print_json(
                {
                    "report": str(shown.report_file),
                    **shown.comparison.to_json(),
                    "prompts": shown.prompts.to_json(),
                }
            )
        else:
            print_comparison(shown.comparison)
            print_answers(
                shown.prompts, len(shown.prompts.rows), Message("The three prompts of the starter:")
            )
        display.next_command(
            Message("loraloom init YOUR-DATA.json --model bigscience/mt0-large > recipe.yaml")
        )
        if not as_json:
            typer.echo(shown.report_file)

"""The command line: thin verbs. Each imports what it needs when it is chosen, so that --help is instant."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loraloom.errors import Interrupted, LoRALoomError
from loraloom.training.stopping import leave_on_signals

if TYPE_CHECKING:
    from loraloom.checks.finding import Finding
    from loraloom.console import Display
    from loraloom.data.split import Split
    from loraloom.recipe import Recipe

SOME_FAILED = 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune encoder-decoder models with LoRA: many adapters on one frozen base, nothing silent.",
)

RecipeFile = Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of one that comes along.")]
RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def _known_checks(names: list[str]) -> list[str]:
    """Refuse a name that is no check, or one whose errors cannot be allowed."""
    from loraloom.checks.allowing import why_not_allowable

    for name in names:
        if reason := why_not_allowable(name):
            raise typer.BadParameter(reason)
    return names


Allow = Annotated[
    list[str],
    typer.Option(
        "--allow",
        metavar="CHECK",
        callback=_known_checks,
        help="Go on in spite of this check's errors; recorded in the run. Several times.",
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("loraloom"))
        raise typer.Exit


@app.command()
def init(
    data: Annotated[Path, typer.Argument(help="A file of instruction/response pairs.")],
    model: Annotated[str, typer.Option(help="A folder, a hub name, or `starter`.")] = "starter",
    as_json: AsJson = False,
) -> None:
    """Look at a data file and write a commented recipe for it to stdout."""
    from loraloom.console import put
    from loraloom.workflows.init import init_recipe

    with _display(as_json) as display:
        text = init_recipe(data, model, report=display)
        if as_json:
            _print_json({"recipe": text})
        else:
            put(text)
        display.next_command("loraloom check recipe.yaml")


@app.command()
def check(
    recipe: RecipeFile,
    sets: Sets = [],  # noqa: B006 (typer copies it)
    allow: Allow = [],  # noqa: B006
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Only the checks of the data; loads no model.")
    ] = False,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Try eight learning rates in one pass.")] = False,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also overfit one batch, or say what stands in the way; then --find-lr."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where --find-lr keeps what it found; by default below runs/.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show also what is in order, in full.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the real model on real rows, in seconds, and say what would go wrong."""
    if data_only and (find_lr or deep):
        option = "--find-lr" if find_lr else "--deep"
        raise typer.BadParameter(f"{option} trains, and --data-only loads no model; leave one out")
    if out is not None and not (find_lr or deep):
        raise typer.BadParameter("--out says where --find-lr keeps what it found; give both")
    with _display(as_json) as display:
        settings, folder = _read(recipe, sets, display)
        split = _split(settings, folder, allow)
        from loraloom.console import print_batch, print_findings

        document: dict[str, Any] = {}
        if data_only:
            from loraloom.workflows.check_data import check_data

            of_data = check_data(settings, folder, split, allow)
            findings = [*of_data.findings, *of_data.without_tokens]
        else:
            from loraloom.workflows.check import examine

            checked = examine(settings, folder=folder, split=split, allowed=allow, deep=deep, report=display)
            findings = checked.findings
            document["batch"] = [view.to_json() for view in checked.batch]
            if not as_json:
                print_batch(checked.batch)
        document["findings"] = [finding.to_json() for finding in findings]
        if not as_json:
            print_findings(findings, show_all=show_all)
        has_errors = any(finding.level == "error" for finding in findings)
        if (find_lr or (deep and split.eval)) and not has_errors:
            document["range_test"] = _range_test(settings, folder, out, split, findings, display)
        if as_json:
            _print_json(document)
        if has_errors:
            raise typer.Exit(1)
        better = "".join(f" --allow {name}" for name in allow)
        if (rate := document.get("range_test", {}).get("suggestion")) is not None:
            better += f" --set training.learning_rate={rate:g}"
        display.next_command(f"loraloom {'check' if data_only else 'train'} {recipe}{better}")


def _range_test(
    recipe: Recipe,
    folder: Path,
    out: Path | None,
    split: Split,
    findings: list[Finding],
    display: Display,
) -> dict[str, Any]:
    """Try eight learning rates, show what each did, and return that as JSON has it."""
    from loraloom.console import print_range_test
    from loraloom.workflows.find_lr import find_learning_rate

    found = find_learning_rate(recipe, folder=folder, out=out, split=split, findings=findings, report=display)
    display.close()
    if not display.is_quiet:
        print_range_test(found)
        display.say(f"kept in {found.run}: `loraloom report {found.run}` shows it as a page")
    return found.to_json()


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe's YAML file, or the name of one that comes along; a run's own with --resume."
        ),
    ] = None,
    sets: Sets = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="The run directory; by default a new one below runs/.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with this run; its recipe need not be named.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Train each experiment from so many seeds.")] = None,
    allow: Allow = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Train every experiment of a recipe together."""
    if out is not None and resume is not None:
        raise typer.BadParameter("--out makes a new run and --resume goes on with one; give one of them")
    if recipe is None and resume is None:
        raise typer.BadParameter("a recipe is needed, or --resume RUN")
    with _display(as_json) as display:
        sets = sets if seeds is None else [*sets, f"seeds={seeds}"]
        settings, folder = _read(recipe, sets, display) if recipe else _read_own(resume, sets)
        split = None if resume else _split(settings, folder, allow)
        from loraloom.console import print_table
        from loraloom.workflows.train import train as run_training

        outcome = run_training(
            settings, folder=folder, out=out, resume=resume, split=split, allowed=allow, report=display
        )
        display.close()
        if as_json:
            _print_json({"run": str(outcome.run.folder), **outcome.result})
        else:
            print_table(
                ("experiment", "status", "steps", "best step", "best figure", "adapter"),
                [
                    _experiment_row(outcome.run.folder, name, entry)
                    for name, entry in _entries(outcome.result)
                ],
            )
        display.next_command(f"loraloom compare {outcome.run.folder}")
        if outcome.failed:
            raise typer.Exit(SOME_FAILED)


def _entries(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(result["experiments"].items())


def _experiment_row(folder: Path, name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    best = "–" if entry["best_metric"] is None else f"{entry['best_metric']:.4f}"
    adapter = "–" if entry["status"] == "failed" else str(folder / "adapters" / name)
    return name, entry["status"], str(entry["step"]), str(entry["best_step"]), best, adapter


@app.command()
def search(
    recipe: RecipeFile,
    space: Annotated[Path, typer.Option(help="A YAML file: keys of the recipe, and what each may be.")],
    trials: Annotated[int, typer.Option(help="How many adapters to train.")],
    sampler: Annotated[str, typer.Option(help="What decides: tpe, random or grid.")] = "tpe",
    halving: Annotated[bool, typer.Option("--halving", help="The weak give up their places early.")] = False,
    sets: Sets = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="The run directory; by default a new one below runs/.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with this run of the same search.")] = None,
    allow: Allow = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Try many settings of a recipe in one pass, and find the best."""
    if out is not None and resume is not None:
        raise typer.BadParameter("--out makes a new run and --resume goes on with one; give one of them")
    with _display(as_json) as display:
        settings, folder = _read(recipe, sets, display)
        from loraloom.search.reading import read_space
        from loraloom.search.request import make_request

        request = make_request(
            settings, read_space(space, settings), num_trials=trials, sampler=sampler, halving=halving
        )
        split = None if resume else _split(settings, folder, allow)
        from loraloom.console import print_table
        from loraloom.search.table import table
        from loraloom.workflows.search import search as run_search

        found = run_search(
            request, folder=folder, out=out, resume=resume, split=split, allowed=allow, report=display
        )
        display.close()
        if as_json:
            _print_json(found.to_json())
        else:
            print_table(*table(found.ledger.trials_ranked, found.ledger.metric, found.importances))
        display.next_command(f"loraloom compare {found.run.folder} --experiment {found.best.name}")
        if found.ledger.failed:
            raise typer.Exit(SOME_FAILED)


@app.command()
def compare(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="eval or test; test where the run has one.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of other rows to answer.")] = None,
    prompt: Annotated[list[str], typer.Option(help="A text to answer; may be given several times.")] = [],  # noqa: B006
    experiment: Annotated[list[str], typer.Option(help="Only this experiment; several times.")] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Name of the file in the run's compare/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let base and adapters answer the same rows in one pass."""
    if split not in (None, "eval", "test"):
        raise typer.BadParameter("must be eval or test", param_hint="--split")
    with _display(as_json) as display:
        from loraloom.console import print_comparison
        from loraloom.workflows.compare import compare as run_comparison

        comparison = run_comparison(
            run,
            split=split,  # type: ignore[arg-type]
            prompts=prompt,
            prompts_file=prompts,
            experiments=experiment or None,
            name=name,
            report=display,
        )
        if as_json:
            _print_json(comparison)
        else:
            print_comparison(comparison, shown_rows=len(prompt) or 3)
        display.say(f"all answers: {comparison['file']}") if not as_json else None
        display.next_command(f"loraloom predict {run} FILE")


@app.command()
def report(
    run: RunFolder,
    format: Annotated[
        str, typer.Option(help="html, md, json or csv; recipe: what is recommended, to train.")
    ] = "html",
    out: Annotated[
        str | None, typer.Option(help="The file, or - for stdout; by default report.* in the run.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Name of the comparison; test before eval by default.")
    ] = None,
) -> None:
    """Write one page that shows what a run came to, and opens anywhere offline."""
    from loraloom.console import put
    from loraloom.workflows.report import FORMATS, render_report, write_report

    if format not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}", param_hint="--format")
    with _display(False) as display:
        if out == "-":
            put(render_report(run, format, compare))
        else:
            put(f"{write_report(run, format, Path(out) if out else None, compare, display)}\n")
        display.next_command(f"loraloom predict {run} FILE")


@app.command()
def predict(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="Rows to answer: a data file, or text with a prompt a line.")],
    experiment: Annotated[str | None, typer.Option(help="Whose adapter answers.")] = None,
    base: Annotated[bool, typer.Option("--base", help="The base answers, without an adapter.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer every row of a file; one JSON object a line on stdout."""
    if base and experiment is not None:
        raise typer.BadParameter("--base and --experiment are two answers to one question")
    with _display(as_json) as display:
        from loraloom.console import put
        from loraloom.workflows.predict import predict as run_prediction

        answers = run_prediction(run, file, experiment=experiment, base=base, report=display)
        if as_json:
            _print_json({"answers": list(answers)})
        else:
            for line in answers:
                if not put(json.dumps(line, ensure_ascii=False) + "\n"):
                    break
        display.next_command(f"loraloom compare {run} --prompts {file}")


@app.command()
def merge(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")],
    experiment: Annotated[str | None, typer.Option(help="Whose adapter.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; by default as the base's own files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write base + adapter as one plain transformers folder, proven equal."""
    with _display(as_json) as display:
        from loraloom.console import print_table
        from loraloom.workflows.merge import merge as run_merge
        from loraloom.workflows.merging.words import figures

        merged = run_merge(run, out, experiment=experiment, dtype=dtype, report=display)
        if as_json:
            _print_json(merged)
        else:
            size = f"{merged['bytes'] / 1e6:,.1f} MB"
            print_table(("merged", merged["folder"]), [("size", size), *figures(merged)])
        display.next_command(
            f'in Python: AutoModelForSeq2SeqLM.from_pretrained("{out}"), see {out}/README.md'
        )


@app.command()
def card(
    run: RunFolder,
    experiment: Annotated[str | None, typer.Option(help="Whose adapter.")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for it, replaced if there; else stdout.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model card for an adapter."""
    with _display(as_json) as display:
        from loraloom.console import put
        from loraloom.workflows.card import card as make_card

        made = make_card(run, experiment=experiment, out=out)
        if as_json:
            _print_json(made)
        else:
            put(made["card"] if out is None else f"{out}\n")
        display.next_command(f"loraloom merge {run} OUT --experiment {made['experiment']}")


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder."""
    with _display(as_json) as display:
        from loraloom.console import print_table
        from loraloom.workflows.runs import describe_runs

        described = describe_runs(folder)
        if as_json:
            _print_json({"runs": described})
        elif described:
            print_table(tuple(described[0]), [tuple(map(str, row.values())) for row in described])
        else:
            display.say(f"there are no runs in {folder}")
        last = described[-1]["run"] if described else None
        display.next_command(f"loraloom compare {last}" if last else "loraloom train RECIPE")


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="The run directory; by default a new one below runs/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The main job on the embedded starter, offline: checks, training, comparison, report."""
    with _display(as_json) as display:
        from loraloom.console import print_comparison
        from loraloom.workflows.demo import demo as run_demo

        shown = run_demo(out=out, report=display)
        if as_json:
            _print_json({"report": str(shown.report_file), **shown.comparison})
        else:
            print_comparison(shown.comparison)
        display.next_command("loraloom init YOUR-DATA.json --model bigscience/mt0-large > recipe.yaml")
        if not as_json:
            typer.echo(shown.report_file)


@app.command("recipe-schema")
def recipe_schema() -> None:
    """The JSON Schema of a recipe, for editors."""
    from loraloom.recipe.file import recipe_schema as schema

    _print_json(schema())


def _read(recipe: str, sets: list[str], display: Display) -> tuple[Recipe, Path]:
    from loraloom.recipe.file import read_recipe_with_notes

    reading = read_recipe_with_notes(recipe, sets)
    for note in reading.notes:
        display("warning" if note.is_warning else "note", message=str(note))
    return reading.recipe, reading.folder


def _read_own(run: Path | None, sets: list[str]) -> tuple[Recipe, Path]:
    """The recipe of a run that is to be resumed, and the folder its paths are relative to."""
    from loraloom.run import open_run
    from loraloom.workflows.provenance import run_recipe

    if sets:
        raise typer.BadParameter("a resumed run keeps its settings; leave --set and --seeds out")
    assert run is not None
    recipe, folder, _ = run_recipe(open_run(run))
    return recipe, folder


def _split(recipe: Recipe, folder: Path, allow: list[str]) -> Split:
    """Before a workflow is imported, and torch with it: a complaint about data comes at once."""
    from loraloom.data.split import split_examples

    return split_examples(recipe.data, folder, allow_leakage="leakage" in allow)


@contextmanager
def _display(as_json: bool) -> Iterator[Display]:
    from loraloom.console import Display

    display = Display(is_quiet=as_json)
    try:
        yield display
    finally:
        display.close()


def _print_json(value: Any) -> None:
    from loraloom.console import put

    put(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def main() -> None:
    """Run the command line; every way out has its exit code and no message is a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    _write_utf8()
    try:
        with leave_on_signals():
            app()
    except LoRALoomError as error:
        kind = type(error).__name__
        print(f"{kind}: {error}", file=sys.stderr)
        sys.exit(1)
    except Interrupted as stop:
        print(f"{stop}", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        # A disk that is full, say, under a file that no workflow expects to fail.
        file = f": {error.filename}" if error.filename else ""
        print(f"{type(error).__name__}: {error.strerror or error}{file}", file=sys.stderr)
        sys.exit(1)


def _write_utf8() -> None:
    """`predict > answers.jsonl` gives the same bytes in every locale; a terminal keeps its own encoding."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_ours = not stream.isatty() or stream.encoding.lower() in ("ascii", "us-ascii")
            stream.reconfigure(encoding="utf-8" if is_ours else stream.encoding, errors="backslashreplace")

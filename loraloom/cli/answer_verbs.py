"""Commands after training: compare, report, predict, runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from loraloom.cli.shared_options import AsJson, MovedBase, MovedData, RunFolder
from loraloom.cli.verb_steps import command, displayed, importing, moved_words, print_json
from loraloom.run.folder import open_run


def compare(
    run: RunFolder,
    split: Annotated[
        str | None, typer.Option(help="eval or test; by default test if the run has test rows.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of other rows to answer.")] = None,
    prompt: Annotated[list[str], typer.Option(help="A text to answer; can be repeated.")] = [],  # noqa: B006
    experiment: Annotated[
        list[str], typer.Option(help="Only this experiment, with all its seeds; can be repeated.")
    ] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Name of the file in the run's compare/.")] = None,
    base: MovedBase = None,
    data: MovedData = None,
    as_json: AsJson = False,
) -> None:
    """Answer the same rows with the base and its adapters in one pass."""
    if split not in (None, "eval", "test"):
        raise typer.BadParameter("must be eval or test", param_hint="--split")
    with displayed(as_json) as display:
        from loraloom.console import print_comparison

        with importing():
            from loraloom.commands.compare import compare as run_comparison

        comparison = run_comparison(
            run,
            split=split,  # type: ignore[arg-type]
            prompts=prompt,
            prompts_file=prompts,
            experiments=experiment or None,
            name=name,
            base=base,
            data=data,
            report=display,
        )
        if as_json:
            print_json(comparison)
        else:
            print_comparison(comparison, shown_rows=_rows_to_show(comparison, prompt))
        display.say(f"all answers: {comparison['file']}") if not as_json else None
        display.next_command(_predict_command(run, base))


def _rows_to_show(comparison: Mapping[str, Any], prompts: list[str]) -> int:
    """Return how many rows to show: all prompts, which are few and chosen, but only some other rows."""
    return max(len(prompts), 10) if comparison["what"] == "prompts" else 3


def _predict_command(run: Path, base: Path | None = None) -> str:
    """Return the next `predict` command, which must name one of several adapters."""
    adapters = [path for path in open_run(run).adapters.glob("[!.]*") if path.is_dir()]
    which = ("--experiment", "EXPERIMENT") if len(adapters) > 1 else ()
    return command("predict", run, "FILE", *which, *moved_words(base))


def report(
    run: RunFolder,
    format: Annotated[
        str, typer.Option(help="html, md, json or csv; `recipe` is the recommended configuration.")
    ] = "html",
    out: Annotated[
        str | None, typer.Option(help="The file to write, or - for stdout; by default report.* in the run.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help="Name of the comparison; by default test, or else eval.")
    ] = None,
) -> None:
    """Write the results of a run as one page that opens anywhere offline."""
    from loraloom.commands.report import FORMATS, render_report, write_report
    from loraloom.console import put

    if format not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}", param_hint="--format")
    with displayed() as display:
        if out == "-":
            put(render_report(run, format, compare))
        else:
            path = write_report(run, format, Path(out) if out else None, compare, display)
            put(f"{path}\n")
        is_recipe = format == "recipe" and out != "-"
        display.next_command(command("train", path) if is_recipe else _predict_command(run))


def predict(
    run: RunFolder,
    file: Annotated[
        Path,
        typer.Argument(
            help="Rows to answer: a data file, a text file with one prompt per line, or a folder of these."
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Option(help="The adapter that answers; with several seeds, such as main@42; `base` for none."),
    ] = None,
    keep: Annotated[
        list[str],
        typer.Option(help="A column to keep with the answer; can be repeated. An id column is always kept."),
    ] = [],  # noqa: B006
    base: MovedBase = None,
    as_json: AsJson = False,
) -> None:
    """Answer every row of a file; write one JSON object per line to stdout."""
    with displayed(as_json) as display:
        from loraloom.console import put

        with importing():
            from loraloom.commands.predict import predict as run_prediction

        answers = run_prediction(run, file, experiment=experiment, keep=keep, base=base, report=display)
        if as_json:
            print_json({"answers": list(answers)})
        else:
            for line in answers:
                if not put(json.dumps(line, ensure_ascii=False) + "\n"):
                    break
        display.next_command(command("compare", run, "--prompts", file, *moved_words(base)))


def runs(
    folder: Annotated[Path, typer.Argument(help="The folder to search.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder."""
    with displayed(as_json) as display:
        from loraloom.commands.runs import describe_runs
        from loraloom.console import print_table

        described = describe_runs(folder)
        if as_json:
            print_json({"runs": described})
        elif described:
            print_table(tuple(described[0]), [tuple(map(str, row.values())) for row in described])
        else:
            display.say(f"there are no runs in {folder}")
        last = described[-1]["run"] if described else None
        display.next_command(command("compare", last) if last else command("train", "RECIPE"))

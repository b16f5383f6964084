"""Commands after training: compare, report, predict, runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli.rank_steps import answering_ranks, on_ranks
from loraloom.cli.shared_options import (
    Adapters,
    AnswerSets,
    AsJson,
    MovedBase,
    MovedData,
    OneAdapter,
    RunFolder,
    RunOrNone,
    SourceLang,
    TargetLang,
)
from loraloom.cli.verb_steps import (
    check_adapter_options,
    command,
    displayed,
    importing,
    moved_words,
    print_json,
    refuse_sets_of_run,
)
from loraloom.run.documents.words import shown_word
from loraloom.run.folder import Run, open_run
from loraloom.run.resuming import is_range_test
from loraloom.text.message import Message

if TYPE_CHECKING:
    from loraloom.run.documents.comparison import Comparison


def compare(
    run: RunOrNone = None,
    split: Annotated[
        str | None, typer.Option(help=Message("eval or test; by default test if the run has test rows."))
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help=Message("A file with other rows to answer."))] = None,
    prompt: Annotated[list[str], typer.Option(help=Message("A text to answer; can be repeated."))] = [],  # noqa: B006
    experiment: Annotated[
        list[str], typer.Option(help=Message("Only this experiment, with all its seeds; can be repeated."))
    ] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help=Message("File name in the run's compare/ folder."))] = None,
    base: MovedBase = None,
    data: MovedData = None,
    adapters: Adapters = [],  # noqa: B006
    sets: AnswerSets = [],  # noqa: B006
    source_lang: SourceLang = None,
    target_lang: TargetLang = None,
    spbleu_model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=Message("A sentencepiece model file, to compute spBLEU too; it is never downloaded."),
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help=Message("With --adapter: the JSON file to store the comparison in."))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer the same rows with the base and its adapters in one pass."""
    check_adapter_options(run, base, adapters, {"--split": split, "--experiment": experiment, "--name": name})
    refuse_sets_of_run(run, sets)
    if run is not None and out is not None:
        raise typer.BadParameter(
            Message("--out requires --adapter; a run stores comparisons in compare/, under --name")
        )
    if split not in (None, "eval", "test"):
        raise typer.BadParameter(Message("must be eval or test"), param_hint="--split")
    with displayed(as_json) as display:
        from loraloom.console import print_comparison

        with importing():
            from loraloom.commands.compare import compare as run_comparison
            from loraloom.commands.compare import compare_adapters

        with answering_ranks() as (ranks, stop):
            if ranks is None:
                return
            if run is None:
                assert base is not None
                comparison = compare_adapters(
                    base,
                    adapters,
                    data=data,
                    prompts=prompt,
                    prompts_file=prompts,
                    sets=sets,
                    source_lang=source_lang,
                    target_lang=target_lang,
                    spbleu_model=spbleu_model,
                    out=out,
                    report=display,
                    stop=stop,
                    ranks=ranks,
                )
            else:
                comparison = run_comparison(
                    run,
                    split=split,  # type: ignore[arg-type]
                    prompts=prompt,
                    prompts_file=prompts,
                    experiments=experiment or None,
                    name=name,
                    base=base,
                    data=data,
                    source_lang=source_lang,
                    target_lang=target_lang,
                    spbleu_model=spbleu_model,
                    report=display,
                    stop=stop,
                    ranks=ranks,
                )
        if as_json:
            print_json(comparison.to_json())
        else:
            print_comparison(comparison, shown_rows=_rows_to_show(comparison, prompt))
        if not as_json:
            unstored = Message(
                "the answers are not stored; use --out FILE.json to store them, or --json to print them"
            )
            display.say(Message("all answers: {file}", file=(comparison.file or unstored)))
        display.next_command(
            command("predict", "--base", base or "BASE", "--adapter", adapters[0], "FILE")
            if run is None
            else on_ranks(_predict_command(run, base), shares_base=ranks.shares_base)
        )


def _rows_to_show(comparison: Comparison, prompts: list[str]) -> int:
    """Return how many rows to show: 3, or if prompts were answered, one per `--prompt`, but at least 10."""
    return max(len(prompts), 10) if comparison.what == "prompts" else 3


def _predict_command(run: Path, base: Path | None = None) -> str:
    """Return the command to suggest next: `predict`, or `train` if the run was a range test."""
    opened = open_run(run)
    if is_range_test(opened):
        return command("train", "RECIPE")
    adapters = [path for path in opened.adapters.glob("[!.]*") if path.is_dir()]
    which = ("--experiment", "EXPERIMENT") if len(adapters) > 1 else ()
    return command("predict", run, "FILE", *which, *moved_words(base))


def report(
    run: RunFolder,
    format: Annotated[
        str, typer.Option(help=Message("html, md, json or csv; `recipe` is the recommended configuration."))
    ] = "html",
    out: Annotated[
        str | None,
        typer.Option(help=Message("The file to write, or - for stdout; by default report.* in the run.")),
    ] = None,
    compare: Annotated[
        str | None, typer.Option(help=Message("Name of the comparison; by default test, or else eval."))
    ] = None,
) -> None:
    """Write the results of a run as one page that opens anywhere offline."""
    from loraloom.commands.report import FORMATS, render_report, write_report
    from loraloom.console import put

    if format not in FORMATS:
        raise typer.BadParameter(
            Message("must be one of {formats}", formats=", ".join(FORMATS)), param_hint="--format"
        )
    with displayed() as display:
        if out == "-":
            put(render_report(run, format, compare))
        else:
            path = write_report(run, format, Path(out) if out else None, compare, display)
            put(f"{path}\n")
        is_recipe = format == "recipe" and out != "-"
        display.next_command(command("train", path) if is_recipe else _predict_command(run))


def predict(
    run: RunOrNone = None,
    file: Annotated[
        Path | None,
        typer.Argument(
            help=Message(
                "Rows to answer: a data file, a text file with one prompt per line, or a folder of these."
            ),
            show_default=False,
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help=Message(
                "The adapter that answers, such as main, or main@42 if there are several seeds; `base` for "
                "the base alone."
            )
        ),
    ] = None,
    keep: Annotated[
        list[str],
        typer.Option(
            help=Message("A column to keep with the answer; can be repeated. An id column is always kept.")
        ),
    ] = [],  # noqa: B006
    base: MovedBase = None,
    adapter: OneAdapter = None,
    sets: AnswerSets = [],  # noqa: B006
    source_lang: SourceLang = None,
    target_lang: TargetLang = None,
    as_json: AsJson = False,
) -> None:
    """Answer every row of a file; write one JSON object per line to stdout."""
    if adapter is not None and file is None:
        run, file = None, run  # the only path given is that of the rows
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    refuse_sets_of_run(run, sets)
    if file is None:
        raise typer.BadParameter(Message("give a file of rows to answer"))
    with displayed(as_json) as display:
        from loraloom.console import put

        with importing():
            from loraloom.commands.predict import predict as run_prediction
            from loraloom.commands.predict import predict_with_adapter

        with answering_ranks() as (ranks, stop):
            if ranks is None:
                return
            if run is not None:
                answers = run_prediction(
                    run,
                    file,
                    experiment=experiment,
                    keep=keep,
                    base=base,
                    source_lang=source_lang,
                    target_lang=target_lang,
                    report=display,
                    stop=stop,
                    ranks=ranks,
                )
            else:
                assert base is not None
                assert adapter is not None
                answers = predict_with_adapter(
                    base,
                    adapter,
                    file,
                    keep=keep,
                    source_lang=source_lang,
                    target_lang=target_lang,
                    sets=sets,
                    report=display,
                    stop=stop,
                    ranks=ranks,
                )
            if as_json:
                print_json({"answers": list(answers)})
            else:
                for line in answers:
                    if not put(json.dumps(line, ensure_ascii=False) + "\n"):
                        break
        words = ["--adapter", adapter] if adapter else []
        which = [run] if run is not None else []
        compared = command("compare", *which, "--prompts", file, *moved_words(base), *words)
        display.next_command(on_ranks(compared, shares_base=ranks.shares_base))


def runs(
    folder: Annotated[Path, typer.Argument(help=Message("The folder to search."))] = Path("runs"),
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
            print_table(
                tuple(map(shown_word, described[0])),
                [tuple(shown_word(str(value)) for value in row.values()) for row in described],
            )
        else:
            display.say(Message("there are no runs in {folder}", folder=folder))
        last = Path(described[-1]["run"]) if described else None
        has_adapters = last is not None and not is_range_test(Run(last))
        display.next_command(
            command("compare", last) if last and has_adapters else command("train", "RECIPE")
        )

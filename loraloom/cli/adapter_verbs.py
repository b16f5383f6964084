"""Commands for finished adapters: merge, export, card, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loraloom.cli.shared_options import (
    AdapterBase,
    AsJson,
    MergeSets,
    MovedBase,
    MovedData,
    OneAdapter,
    OneExperiment,
    RunFolder,
    RunOrNone,
)
from loraloom.cli.verb_steps import (
    check_adapter_options,
    command,
    displayed,
    importing,
    print_json,
    refuse_sets_of_run,
)
from loraloom.text.message import Message
from loraloom.text.units import size


def merge(
    run: RunOrNone = None,
    out: Annotated[
        Path | None,
        typer.Argument(help=Message("The folder to create; it must not exist."), show_default=False),
    ] = None,
    experiment: OneExperiment = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help=Message(
                "float32, bfloat16 or, for families that support it (BART), float16; by default "
                "that of the base's own files."
            )
        ),
    ] = None,
    base: MovedBase = None,
    data: MovedData = None,
    adapter: OneAdapter = None,
    sets: MergeSets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base as a plain transformers folder, and verify that it is equal."""
    if adapter is not None and out is None:
        run, out = None, run  # the only folder given is the one to create
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    refuse_sets_of_run(run, sets)
    if out is None:
        raise typer.BadParameter(Message("the folder to create is missing"))
    with displayed(as_json) as display:
        from loraloom.console import print_table

        with importing():
            from loraloom.commands.merge import merge as run_merge
            from loraloom.commands.merge import merge_foreign
        from loraloom.export.merge_text import figures

        if run is not None:
            merged = run_merge(
                run, out, experiment=experiment, dtype=dtype, base=base, data=data, report=display
            )
        else:
            assert base is not None
            assert adapter is not None
            merged = merge_foreign(base, adapter, out, dtype=dtype, data=data, sets=sets, report=display)
        if as_json:
            print_json(merged)
        else:
            print_table(
                (Message("merged"), merged["folder"]),
                [(Message("size"), size(merged["bytes"])), *figures(merged)],
            )
        display.next_command(
            Message('in Python: AutoModelForSeq2SeqLM.from_pretrained("{out}"), see {out}/README.md', out=out)
        )


def export(
    format: Annotated[
        str,
        typer.Option(
            "--format", help=Message("transformers, peft, ctranslate2, onnx or gguf."), show_default=False
        ),
    ],
    run: RunOrNone = None,
    out: Annotated[
        Path | None,
        typer.Argument(help=Message("The folder to create; it must not exist."), show_default=False),
    ] = None,
    quantization: Annotated[
        str | None,
        typer.Option(
            help=Message(
                "int8, int16, float16, bfloat16 or float32, if the format has it; by default what "
                "loses nothing."
            )
        ),
    ] = None,
    adapter_only: Annotated[
        bool,
        typer.Option(
            "--adapter-only", help=Message("Export the adapter without its base, if the format can.")
        ),
    ] = False,
    experiment: OneExperiment = None,
    base: MovedBase = None,
    data: MovedData = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            help=Message(
                "Rows for the proof instead of the run's, with or without answers: a data file, or a text "
                "file with one prompt per line."
            )
        ),
    ] = None,
    adapter: OneAdapter = None,
    sets: MergeSets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Export an adapter to another program's format, and verify it with that program."""
    if adapter is not None and out is None:
        run, out = None, run  # the only folder given is the one to create
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    refuse_sets_of_run(run, sets)
    if out is None:
        raise typer.BadParameter(Message("the folder to create is missing"))
    with displayed(as_json) as display:
        from loraloom.console import print_table

        with importing():
            from loraloom.commands.export import export as run_export
            from loraloom.commands.export import export_foreign
        from loraloom.export.export_text import result_figures

        if run is not None:
            made = run_export(
                run,
                out,
                format=format,
                quantization=quantization,
                adapter_only=adapter_only,
                experiment=experiment,
                base=base,
                data=data,
                prompts=prompts,
                report=display,
            )
        else:
            assert base is not None
            assert adapter is not None
            made = export_foreign(
                base,
                adapter,
                out,
                format=format,
                quantization=quantization,
                adapter_only=adapter_only,
                data=data,
                prompts=prompts,
                sets=sets,
                report=display,
            )
        if as_json:
            print_json(made)
        else:
            print_table(
                (Message("exported"), made["folder"]),
                [(Message("size"), size(made["bytes"])), *result_figures(made)],
            )
        display.next_command(Message("how to run it: {out}/README.md", out=out))


def card(
    run: RunOrNone = None,
    experiment: OneExperiment = None,
    out: Annotated[
        Path | None,
        typer.Option(help=Message("The file to write, replaced if it exists; by default stdout.")),
    ] = None,
    base: AdapterBase = None,
    adapter: OneAdapter = None,
    as_json: AsJson = False,
) -> None:
    """Write a model card for an adapter."""
    check_adapter_options(run, base, [adapter] if adapter else [], {"--experiment": experiment})
    if run is not None and base is not None:
        raise typer.BadParameter(Message("--base requires --adapter; a run names its own base"))
    with displayed(as_json) as display:
        from loraloom.console import put

        if run is not None:
            from loraloom.commands.card import card as make_card

            made = make_card(run, experiment=experiment, out=out)
        else:
            assert base is not None
            assert adapter is not None
            with importing():
                from loraloom.commands.card import card_foreign

            made = card_foreign(base, adapter, out=out, report=display)
        if as_json:
            print_json(made)
        else:
            put(made["card"] if out is None else f"{out}\n")
        which = ["--base", base, "--adapter", adapter] if run is None else [run]
        own = [] if run is None else ["--experiment", made["experiment"]]
        display.next_command(command("merge", *which, "OUT", *own))


def push(
    run: RunFolder,
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help=Message("A repository of the Hugging Face hub."))
    ],
    experiment: OneExperiment = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            help=Message("A folder that `merge` or `export` wrote; by default the adapter itself is sent.")
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME",
            help=Message("The name of the base on the hub, if the run names a folder."),
        ),
    ] = None,
    is_public: Annotated[
        bool, typer.Option("--public", help=Message("Let everybody see a new repository."))
    ] = False,
    sends: Annotated[
        bool, typer.Option("--send", help=Message("Send; without it, only what would be sent is shown."))
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send an adapter, a merged model or an export to the Hugging Face hub; by default only show what."""
    with displayed(as_json) as display:
        from loraloom.console import print_table, put

        with importing():
            from loraloom.commands.push import push as run_push

        pushed = run_push(
            run,
            repository,
            experiment=experiment,
            folder=folder,
            base_model=base_model,
            is_public=is_public,
            sends=sends,
            report=display,
        )
        if as_json:
            print_json(pushed)
            return
        if sends:
            print_table((Message("sent"), size(pushed["bytes"])), [(Message("commit"), pushed["url"])])
            return
        print_table(
            (Message("would be sent"), size(pushed["bytes"])),
            [(file["path"], size(file["bytes"])) for file in pushed["files"]],
        )
        put(f"\n{pushed['card'].rstrip()}\n\n")
        visibility = Message("everybody sees it") if is_public else Message("only its owners see it")
        words: list[str | Path] = ["push", run, repository, "--experiment", pushed["experiment"]]
        words += [] if folder is None else ["--folder", folder]
        if base_model is not None or (pushed["base"] is None and folder is None):
            words += ["--base-model", base_model or "OWNER/NAME"]
        words += ["--public"] if is_public else []
        display.next_command(
            Message("{command} ({visibility})", command=command(*words, "--send"), visibility=visibility)
        )

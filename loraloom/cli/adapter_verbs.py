"""Commands that describe and send finished adapters: card, push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loraloom.cli.shared_options import (
    AdapterBase,
    AsJson,
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
)
from loraloom.text.message import Message
from loraloom.text.units import size


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
        bool, typer.Option("--public", help=Message("Make a new repository public."))
    ] = False,
    sends: Annotated[
        bool,
        typer.Option(
            "--send", help=Message("Actually send; without this option, only show what would be sent.")
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send an adapter, a merged model or an export to the Hugging Face hub (by default a dry run)."""
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
        visibility = Message("everyone can see it") if is_public else Message("only its owners can see it")
        words: list[str | Path] = ["push", run, repository, "--experiment", pushed["experiment"]]
        words += [] if folder is None else ["--folder", folder]
        if base_model is not None or (pushed["base"] is None and folder is None):
            words += ["--base-model", base_model or "OWNER/NAME"]
        words += ["--public"] if is_public else []
        display.next_command(
            Message("{command} ({visibility})", command=command(*words, "--send"), visibility=visibility)
        )

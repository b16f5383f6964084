"""The command that runs a server: serve."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from loraloom.cli.shared_options import Adapters, AnswerSets, MovedBase, RunOrNone
from loraloom.cli.verb_steps import displayed
from loraloom.errors import RecipeError
from loraloom.text.message import Message


def serve(
    run: RunOrNone = None,
    adapters: Adapters = [],  # noqa: B006
    base: MovedBase = None,
    host: Annotated[
        str,
        typer.Option(help=Message("The address to bind; any but a loopback address requires --token-file.")),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help=Message("The port; 0 for any free one."))
    ] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(help=Message("A private file with the token that each request must carry."))
    ] = None,
    allow_host: Annotated[
        list[str],
        typer.Option(metavar="NAME", help=Message("Another name for this server, such as a proxy's.")),
    ] = [],  # noqa: B006
    adapters_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help=Message("Adapters in this folder or below it can be attached while the server runs."),
        ),
    ] = None,
    sets: AnswerSets = [],  # noqa: B006
    max_rows: Annotated[
        int,
        typer.Option(min=1, max=1024, help=Message("Maximum number of answers that are generated together.")),
    ] = 64,
    queue: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help=Message("Maximum number of requests in progress; further ones are refused with 429."),
        ),
    ] = 256,
    grace: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            help=Message("Seconds that answers in progress may take to finish after SIGTERM."),
        ),
    ] = 30.0,
) -> None:
    """Serve the base and its adapters over HTTP, in the format of OpenAI's API."""
    if run is None and (base is None or not adapters):
        raise typer.BadParameter(Message("give a run, or --base FOLDER and --adapter FOLDER"))
    if run is not None and sets:
        raise typer.BadParameter(
            Message("--set requires --adapter, because a run answers with its own recipe")
        )
    with displayed() as display:
        server = _server()
        from loraloom.serving.configuration import ModelConfiguration
        from loraloom.web.security import Access
        from loraloom.web.tokens import read_token

        access = Access(
            host=host,
            token=None if token_file is None else read_token(token_file),
            allowed_hosts=frozenset(allow_host),
        )
        if adapters_from is not None and not adapters_from.is_dir():
            raise RecipeError(Message("is not a folder"), where=f"--adapters-from {adapters_from}")
        server.serve(
            ModelConfiguration(
                run=None if run is None else str(run),
                base=None if base is None else str(base),
                adapters=tuple(adapters),
                sets=tuple(sets),
                max_rows=max_rows,
            ),
            server.ServerSettings(
                access=access,
                port=port,
                adapters_root=adapters_from,
                max_waiting=queue,
                grace_seconds=grace,
            ),
            log=display.say,
            on_start=lambda address: display.say(
                Message(
                    "serving on {address}; Ctrl-C lets answers finish and then stops the server",
                    address=address,
                )
            ),
        )


def _server() -> ModuleType:
    """Import the server, which needs packages that `pip install loraloom` does not install."""
    try:
        from loraloom.web.openai_api import api_server
    except ImportError as error:
        raise RecipeError(
            Message("the server needs packages that are not installed"),
            where="serve",
            found=str(error.name),
            fix=Message("Run `pip install 'loraloom[web]'`."),
        ) from None
    return api_server

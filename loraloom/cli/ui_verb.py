"""The command that serves the pages: ui."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loraloom.cli.verb_steps import displayed
from loraloom.text.message import Message

USUAL_PORT = 8700


def ui(
    runs: Annotated[Path, typer.Option(help=Message("The folder that contains the runs."))] = Path("runs"),
    port: Annotated[
        int | None,
        typer.Option(help=Message("The port; by default 8700, or the next free one."), min=0, max=65535),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help=Message("The address to bind; any but a loopback address requires --token-file.")),
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help=Message("A file with the token to enter in the browser."))
    ] = None,
    allow_host: Annotated[
        list[str],
        typer.Option(help=Message("Another name by which browsers reach the server; can be repeated.")),
    ] = [],  # noqa: B006
) -> None:
    """Show runs, data and answers in a browser, and start training there."""
    with displayed() as display:
        try:
            from loraloom.web.pages.pages_server import serve_pages
        except ModuleNotFoundError as error:
            if error.name not in ("fastapi", "uvicorn", "starlette", "multipart", "python_multipart"):
                raise
            raise _missing(error.name) from None
        serve_pages(
            runs,
            host=host,
            port=USUAL_PORT if port is None else port,
            is_port_fixed=port is not None,
            token_file=token_file,
            allowed_hosts=frozenset(allow_host),
            on_start=lambda address: display.say(
                Message(
                    "The pages are at {address} (Ctrl-C stops the server; training continues)",
                    address=address,
                )
            ),
        )


def _missing(package: str) -> Exception:
    from loraloom.errors import RecipeError

    return RecipeError(
        Message("the pages need a package that is not installed"),
        where="loraloom ui",
        found=Message("no package {package}", package=package),
        fix=Message("Install it with `pip install 'loraloom[web]'`."),
    )

"""The server of the pages: uvicorn, and an end that does not wait for browsers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from loraloom.errors import RunError
from loraloom.text.message import Message
from loraloom.web.pages.application import make_access, make_application
from loraloom.web.ports import bind
from loraloom.web.tokens import read_token

LEAVE_SECONDS = 2
MANY_PORTS = 20


def serve_pages(
    runs: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8700,
    is_port_fixed: bool = True,
    token_file: Path | None = None,
    allowed_hosts: frozenset[str] = frozenset(),
    on_start: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the pages until a signal ends the process.

    Args:
        runs: the folder of the runs; it need not exist yet.
        host, port: address to bind.
        is_port_fixed: whether a port that is in use is an error; otherwise the next free one is taken.
        token_file: file with the token that browsers must enter.
        allowed_hosts: further names by which browsers reach the server.
        on_start: called with the address of the pages.

    Raises:
        LoRALoomError: the address is unusable or in use.
        RecipeError: the address needs a token.
        RunError: the folder of the runs is a file.
    """
    if runs.exists() and not runs.is_dir():
        raise RunError(Message("is a file, not a folder of runs"), where=str(runs))
    token = None if token_file is None else read_token(token_file)
    application = make_application(runs.absolute(), make_access(host, token, allowed_hosts))
    listening = bind(host, port, 1 if is_port_fixed else MANY_PORTS)
    listening.listen()  # a browser may connect as soon as the address is printed
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        import uvicorn

        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LEAVE_SECONDS,
            timeout_keep_alive=30,
            limit_concurrency=200,
        )
        server = uvicorn.Server(config)
    bound = listening.getsockname()[1]
    on_start(f"http://{f'[{host}]' if ':' in host else host}:{bound}")
    server.run(sockets=[listening])

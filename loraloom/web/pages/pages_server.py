"""The web server for the pages: uvicorn, with a shutdown that waits only briefly for open connections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from loraloom.errors import RunError
from loraloom.text.message import Message
from loraloom.web.connection_deadlines import ConnectionWithDeadlines
from loraloom.web.pages.application import make_access, make_application
from loraloom.web.ports import bind
from loraloom.web.tokens import read_token

LEAVE_SECONDS = 2
MANY_PORTS = 20


class _Server(uvicorn.Server):
    """A uvicorn server for which a signal is a normal end; `uvicorn.Server` would raise the signal again."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def main_loop(self) -> None:
        """Announce the start, and serve.

        The start is not announced in `startup`: in uvicorn 0.35, a signal that arrives there skips the
        shutdown.
        """
        self._on_start()
        await super().main_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut the server down at the first SIGINT or SIGTERM, and end it immediately at the second."""
        self.force_exit = self.should_exit
        self.should_exit = True


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
    """Serve the pages until SIGINT or SIGTERM.

    Args:
        runs: the folder of the runs; it need not exist yet.
        host, port: address to bind.
        is_port_fixed: whether a port that is in use is an error; otherwise the next free one is taken.
        token_file: file with the token that browsers must enter.
        allowed_hosts: further names by which browsers reach the server.
        on_start: called with the address of the pages.

    Raises:
        LoRALoomError: the address is unusable or in use.
        RecipeError: the address needs a token, or the token file is unusable.
        RunError: the folder of the runs is a file.
    """
    if runs.exists() and not runs.is_dir():
        raise RunError(Message("is a file, not a folder of runs"), where=str(runs))
    token = None if token_file is None else read_token(token_file)
    application = make_application(runs.absolute(), make_access(host, token, allowed_hosts))
    listening = bind(host, port, 1 if is_port_fixed else MANY_PORTS)
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        http=ConnectionWithDeadlines,
        timeout_graceful_shutdown=LEAVE_SECONDS,
        timeout_keep_alive=30,
        limit_concurrency=200,
    )
    bound = listening.getsockname()[1]
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    _Server(config, lambda: on_start(address)).run(sockets=[listening])

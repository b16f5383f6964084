"""The API server, from its start until it has sent its last answer."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.model_process import ModelProcess
from loraloom.web.accepting_server import AcceptingServer, Probe
from loraloom.web.connection_deadlines import ConnectionWithDeadlines
from loraloom.web.openai_api.api_errors import unhealthy
from loraloom.web.openai_api.routes import Api
from loraloom.web.ports import bind
from loraloom.web.security import Access, SecurityMiddleware

MAX_CONNECTIONS = 2048
KEEP_ALIVE_SECONDS = 15
POLL_SECONDS = 0.05
# Thresholds of the garbage collector: new objects until a young collection, and numbers of collections until
# the middle and the full one. Under full load, a collection takes 4 ms ten times a second, instead of 25 ms
# twice, and 0.3 s once a minute.
COLLECTION_THRESHOLDS = (700, 5, 600)
STALLED_SECONDS = 10  # after which to try again if the event loop is stalled
CLOSE_SECONDS = 2  # for answers to be sent after the last token


@dataclass(frozen=True)
class ServerSettings:
    """Address and limits of a server.

    Args:
        access: who may use it.
        port: port to listen on; 0 for any free one.
        adapters_root: folder whose adapters can be attached while the server runs; None for no adapters.
        max_waiting: maximum number of requests in progress; further ones are refused with 429.
        grace_seconds: time that answers in progress have to finish after SIGTERM.
    """

    access: Access
    port: int = 8000
    adapters_root: Path | None = None
    max_waiting: int = 256
    grace_seconds: float = 30.0


class _Server(AcceptingServer):
    """A server that refuses new requests after a signal; it ends after the last answer or a second signal."""

    def __init__(self, api: Api, grace_seconds: float, *more: Any) -> None:
        super().__init__(*more)
        self._api, self._grace_seconds = api, grace_seconds
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGINT."""
        if self._draining is None and not self._api.is_stopping:
            self._api.is_stopping = True
            self._loop.call_soon_threadsafe(self._drain)
        else:
            self.should_exit = self.force_exit = True

    def _drain(self) -> None:
        self._draining = self._loop.create_task(self._stop_when_answered())

    async def _stop_when_answered(self) -> None:
        await self.publish()
        deadline = self._loop.time() + self._grace_seconds
        while self._api.model.num_under_way and self._loop.time() < deadline:
            await asyncio.sleep(POLL_SECONDS)
        self.should_exit = True


def serve(
    configuration: ModelConfiguration,
    settings: ServerSettings,
    *,
    log: Callable[[str], None],
    on_start: Callable[[str], None],
) -> None:
    """Load a model and serve it until SIGTERM or SIGINT.

    Args:
        configuration: configuration of the model process.
        settings: address and limits of the server.
        log: called with notes on the model, and with what happens to its process.
        on_start: called with the server's address once the model is loaded; before that, requests get a 503.

    Raises:
        LoRALoomError: the model is unusable, or the address is taken.
    """
    thresholds = gc.get_threshold()
    listening = bind(settings.access.host, settings.port)  # before the model is loaded, which takes longer
    try:
        asyncio.run(_serve(configuration, settings, listening, log, on_start))
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        listening.close()


def _keep_collections_short() -> None:
    """Bound the garbage collector's work: scanning all objects took 0.1 s of every second."""
    gc.collect()
    gc.freeze()  # imported modules stay
    gc.set_threshold(*COLLECTION_THRESHOLDS)


async def _serve(
    configuration: ModelConfiguration,
    settings: ServerSettings,
    listening: socket.socket,
    log: Callable[[str], None],
    on_start: Callable[[str], None],
) -> None:
    model = ModelProcess(configuration, settings.max_waiting, log)
    api = Api(model, settings.adapters_root)
    config = uvicorn.Config(
        SecurityMiddleware(api.counted, settings.access),
        lifespan="off",
        access_log=False,  # clients' paths and addresses are private
        log_level="warning",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
        server_header=False,
        proxy_headers=False,
        ws="none",
        loop="asyncio",
        http=ConnectionWithDeadlines,
    )
    stalled = unhealthy("stalled", STALLED_SECONDS)
    probed = Probe("/health", api.health, stalled, settings.access, api.metrics.count)
    server = _Server(api, settings.grace_seconds, config, listening, probed, log)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def load() -> None:
        try:
            await model.start()
        except BaseException:
            server.should_exit = True
            raise
        for note in model.notes:
            log(note)
        _keep_collections_short()
        await server.publish()
        on_start(address)

    loading = asyncio.create_task(load())
    try:
        await server.serve(sockets=[listening])  # while the model is being loaded, the API reports that
        if loading.done():
            loading.result()
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await server.stop_accepting()
        await model.close()

"""A uvicorn server behind a process that accepts its connections and answers health probes on one path."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.responses import Response

from loraloom.text.message import Message
from loraloom.web.accepting import IS_POSSIBLE, Accepting, Told, allow_open_files
from loraloom.web.connection_deadlines import ConnectionWithDeadlines
from loraloom.web.security import Access, secured_headers

TICKS_OF_A_BEAT = 2  # of uvicorn, ten a second


@dataclass(frozen=True)
class Probe:
    """A path whose requests are answered immediately, even if the event loop is busy.

    Args:
        path: path of the requests.
        answer: returns the current answer.
        stalled: answer while the event loop is stalled.
        access: who may use the server; the path must be one that needs no token.
        count: called with the path, HTTP status and duration in seconds of each answer.
    """

    path: str
    answer: Callable[[], Awaitable[Response]]
    stalled: Response
    access: Access
    count: Callable[[str, int, float], None]


class AcceptingServer(uvicorn.Server):
    """A server whose connections a separate process accepts.

    If that is impossible, or the process dies, the server itself accepts them.

    Args:
        config: uvicorn's configuration, with `ConnectionWithDeadlines`.
        listening: socket that connections are accepted from.
        probed: the path that the acceptor answers.
        log: called with lines for the server's log.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: socket.socket,
        probed: Probe,
        log: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._listening, self._probed, self._log = listening, probed, log
        self._loop = asyncio.get_running_loop()
        self._accepting: Accepting | None = None
        self._begun = set[asyncio.Task[Any]]()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the process that accepts connections; if that is impossible, accept them in this process."""
        await super().startup([] if IS_POSSIBLE else [self._listening])
        if not IS_POSSIBLE:
            return
        allow_open_files(2 * (self.config.limit_concurrency or 0))
        self._listening.listen(self.config.backlog)
        access, stalled = self._probed.access, self._told(self._probed.stalled)
        try:
            accepting = Accepting(self._listening, self._connect, self._count_probe, self._accept_here)
            await accepting.start(self._probed.path, access.host, access.allowed_hosts, stalled)
        except OSError:  # no process can be started, or the system has no such channels
            self._accept_here()
        else:
            self._accepting = accepting

    async def on_tick(self, counter: int) -> bool:
        """Signal to the acceptor, a few times per second, that the event loop is running."""
        is_ending = await super().on_tick(counter)
        if counter % TICKS_OF_A_BEAT == 0:
            await self.publish()
        return is_ending

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting connections, and end the existing ones."""
        await self.stop_accepting()
        await super().shutdown([self._listening])

    async def stop_accepting(self) -> None:
        """End the process that accepts connections."""
        if self._accepting is not None:
            await self._accepting.close()

    async def publish(self) -> None:
        """Publish the answer to probes; have them passed on while uvicorn refuses further connections."""
        if self._accepting is not None:
            is_full = len(self.server_state.connections) >= (self.config.limit_concurrency or sys.maxsize)
            self._accepting.publish(None if is_full else self._told(await self._probed.answer()))

    def _told(self, response: Response) -> Told:
        headers = [*self.server_state.default_headers, *secured_headers(response.raw_headers)]
        return response.status_code, headers, bytes(response.body)

    def _count_probe(self, status: int) -> None:
        self._probed.count(self._probed.path, status, 0.0)  # within the smallest bucket

    def _connect(self, connection: socket.socket, is_answered: bool) -> None:
        def protocol() -> ConnectionWithDeadlines:
            made = self._protocol()
            made.is_answered = is_answered
            return made

        self._begin(self._loop.connect_accepted_socket(protocol, connection))

    def _accept_here(self) -> None:
        self._log(Message("no separate process accepts connections; the server accepts them itself"))
        self._accepting = None
        self._begin(self._listen())

    async def _listen(self) -> None:
        listening = self._loop.create_server(
            self._protocol, sock=self._listening, backlog=self.config.backlog
        )
        self.servers.append(await listening)

    def _protocol(self) -> ConnectionWithDeadlines:
        return ConnectionWithDeadlines(self.config, self.server_state, self.lifespan.state, self._loop)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._begun.add(task)  # the loop itself keeps no strong reference
        task.add_done_callback(self._begun.discard)

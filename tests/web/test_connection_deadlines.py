"""Connections that slow clients hold are closed; those of others are not."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvicorn

from loraloom.web import connection_deadlines
from loraloom.web.body_limit import Event, Receive, Scope, Send
from loraloom.web.connection_deadlines import ConnectionWithDeadlines
from loraloom.web.ports import bind

SECONDS = 0.3
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Endless:
    """An application whose answer never ends, which notes how it ended."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def leaving() -> None:
            event: Event = {"type": ""}
            while event["type"] != "http.disconnect":
                event = await receive()
            self.left.set()

        task = asyncio.create_task(leaving())
        while not self.left.is_set():
            await send({"type": "http.response.body", "body": b"x" * 4096, "more_body": True})
            await asyncio.sleep(0)
        await task


async def serving(app: Endless, port: socket.socket) -> uvicorn.Server:
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", log_level="error", http=ConnectionWithDeadlines)  # type: ignore[arg-type]
    )
    server.running = asyncio.create_task(server._serve([port]))  # type: ignore[attr-defined]
    return server


@pytest.mark.parametrize("sent", [b"", REQUEST[:-2]])
def test_a_head_that_does_not_arrive_in_time_is_refused(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection_deadlines, "HEAD_SECONDS", SECONDS)

    async def ask() -> bytes:
        with bind("127.0.0.1", 0) as port:
            server = await serving(Endless(), port)
            reader, writer = await asyncio.open_connection(*port.getsockname())
            writer.write(sent)
            said = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            server.should_exit = True
            await server.running  # type: ignore[attr-defined]
            return said

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_deadlines, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(connection_deadlines, "READ_SECONDS", SECONDS)

    async def ask() -> None:
        app = Endless()
        with bind("127.0.0.1", 0) as port:
            server = await serving(app, port)
            _, writer = await asyncio.open_connection(*port.getsockname())
            writer.write(REQUEST)
            await asyncio.wait_for(app.left.wait(), 20)
            writer.transport.abort()
            server.should_exit = True
            await server.running  # type: ignore[attr-defined]

    asyncio.run(ask())


def test_a_client_that_reads_in_time_is_not() -> None:
    async def ask() -> None:
        app = Endless()
        with bind("127.0.0.1", 0) as port:
            server = await serving(app, port)
            reader, writer = await asyncio.open_connection(*port.getsockname())
            writer.write(REQUEST)
            async with asyncio.timeout(20):
                while not (connections := server.server_state.connections):
                    await asyncio.sleep(0.01)
                (connection,) = connections
                while (deadline := connection._reading) is None:  # type: ignore[union-attr]
                    await asyncio.sleep(0.01)
                while not deadline.cancelled():
                    await reader.read(1 << 16)
            assert not app.left.is_set()
            writer.transport.abort()
            await asyncio.wait_for(app.left.wait(), 20)
            server.should_exit = True
            await server.running  # type: ignore[attr-defined]

    asyncio.run(ask())

"""Requests to an ASGI application without a server or a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from loraloom.web.body_limit import App, Event, Receive, Scope, Send


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    app: App,
    path: str = "/",
    method: str = "GET",
    body: Iterable[bytes] = (b"",),
    seconds_between: float = 0.0,
    **headers: str,
) -> Answer:
    """Send one request, whose body arrives in parts; `content_length` and others are headers."""
    given = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "server": ("127.0.0.1", 8000),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    parts, sent = list(body), []

    async def receive() -> Event:
        await asyncio.sleep(seconds_between)
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(event: Event) -> None:
        sent.append(event)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    start = sent[0]
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(event.get("body", b"") for event in sent[1:]),
    )


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the number of bytes it was sent, whatever happens."""
    body, more = b"", True
    while more:
        event: Any = await receive()
        more = event.get("more_body", False)
        body += event.get("body", b"")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{len(body)}".encode()})

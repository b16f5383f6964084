"""The clients of `benchmarks/server_load.py`, until SIGTERM; then one line of JSON says what they saw.

python -m benchmarks.load_clients PORT CLIENTS SLOW MAX_TOKENS CANARIES
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

LEAVING = 0.3
MOST_SECONDS_UNTIL_LEAVING = 3.0
SECONDS_OF_A_BYTE = 0.5
LONG_STREAM = {"n": 8, "stream": True, "max_tokens": 200, "logprobs": 20}

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Clients:
    """All clients, in one event loop.

    Args:
        port: of the server.
        max_tokens: of an answer.
        canaries: prompts for models, with the answers that they must get.
    """

    def __init__(self, port: int, max_tokens: int, canaries: list[dict[str, str]]) -> None:
        self._port, self._max_tokens, self._canaries = port, max_tokens, canaries
        self._answers = {canary["answer"] for canary in canaries}
        self.seen: Counter[str] = Counter()

    async def ask(self, number: int) -> None:
        """Ask for the same canary again and again; sometimes leave before the answer has ended."""
        await asyncio.sleep(random.random() * 2)
        canary = self._canaries[number % len(self._canaries)]
        asked = {"model": canary["model"], "prompt": canary["prompt"], "temperature": 0}
        while True:
            body = {**asked, "max_tokens": self._max_tokens, "stream": random.random() < 0.5}
            is_leaving = random.random() < LEAVING
            seconds = random.random() * MOST_SECONDS_UNTIL_LEAVING if is_leaving else 600.0
            try:
                async with asyncio.timeout(seconds):
                    retry_after = await self._answered(body, canary["answer"])
                await asyncio.sleep(retry_after * (0.5 + random.random()))
            except TimeoutError:
                self.seen["clients that left" if is_leaving else "answers later than 600 s"] += 1
            except OSError as error:
                self.seen[f"connections broken: {type(error).__name__}"] += 1
                await asyncio.sleep(1)

    async def _answered(self, body: dict[str, Any], expected: str) -> float:
        """Send one request and judge its answer; return the seconds to wait before the next."""
        reader, writer = await self._connect()
        try:
            writer.write(_request(body))
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            status = int(head.split()[1])
            text = (await reader.read()).decode(errors="replace")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
        finally:
            writer.transport.abort()
        self.seen[f"answers with status {status}"] += 1
        if status == 429:
            named = [line for line in head.splitlines() if line.startswith("retry-after:")]
            self.seen["429 without Retry-After"] += not named
            return float(named[0].split(":")[1]) if named else 1.0
        if status == 200:
            self._judge(_text_of(text, is_streamed=body["stream"]), expected)
        return 0.0 if status == 200 else 1.0

    def _judge(self, text: str | None, expected: str) -> None:
        if text is None:
            self.seen["answers cut off"] += 1
        elif text == expected:
            self.seen["answers as alone"] += 1
        else:
            self.seen[
                "answers with the text of another" if text in self._answers else "answers that differ"
            ] += 1

    async def write_head_slowly(self, number: int) -> None:
        """Send a head byte by byte, until the server closes."""
        await self._slowly(_request({"model": "base", "prompt": "x"}), 0)

    async def write_body_slowly(self, number: int) -> None:
        """Send a body byte by byte."""
        request = _request({"model": "base", "prompt": "x" * 2000})
        await self._slowly(request, request.index(b"\r\n\r\n") + 4)

    async def _slowly(self, request: bytes, num_at_once: int) -> None:
        async def send(pair: Pair) -> None:
            reader, writer = pair
            writer.write(request[:num_at_once])
            answer = asyncio.ensure_future(reader.read(100))
            for byte in request[num_at_once:]:
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(SECONDS_OF_A_BYTE)
            said = await answer
            self.seen[f"slow writers given up with {said[9:12].decode() or 'nothing'}"] += 1

        await self._again(send)

    async def read_slowly(self, number: int) -> None:
        """Read a long stream byte by byte."""

        async def read(pair: Pair) -> None:
            reader, writer = pair
            body = {
                "model": "base",
                "prompt": self._canaries[number % len(self._canaries)]["prompt"],
                **LONG_STREAM,
            }
            writer.write(_request(body))
            while await reader.read(1):
                await asyncio.sleep(SECONDS_OF_A_BYTE)
            self.seen["slow readers that were disconnected"] += 1

        await self._again(read)

    async def _again(self, act: Callable[[Pair], Awaitable[None]]) -> None:
        while True:
            try:
                pair = await self._connect(small=True)
                try:
                    await act(pair)
                finally:
                    pair[1].transport.abort()
            except OSError:
                self.seen["slow clients that were disconnected"] += 1
            await asyncio.sleep(1)

    async def _connect(self, *, small: bool = False) -> Pair:
        """Connect; a slow client has small buffers, so that the server sees that nothing is read."""
        connection = socket.socket()
        connection.setblocking(False)
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        return await asyncio.open_connection(sock=connection, limit=4096 if small else 1 << 20)


def _request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def _text_of(body: str, *, is_streamed: bool) -> str | None:
    """The text of an answer; None if it has no end."""
    if not is_streamed:
        with contextlib.suppress(ValueError, LookupError):
            return str(json.loads(body)["choices"][0]["text"])
        return None
    found = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    if not found or found[-1] != "[DONE]":
        return None
    return "".join(json.loads(each)["choices"][0]["text"] for each in found[:-1])


async def _run(port: int, num_clients: int, num_slow: int, max_tokens: int, known: Path) -> None:
    clients = Clients(port, max_tokens, json.loads(known.read_text(encoding="utf-8")))
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    slow = (clients.write_head_slowly, clients.write_body_slowly, clients.read_slowly)
    tasks = [asyncio.create_task(clients.ask(number)) for number in range(num_clients)]
    tasks += [asyncio.create_task(slow[number % 3](number)) for number in range(num_slow)]
    await stopped.wait()
    print(json.dumps(dict(sorted(clients.seen.items()))), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Run until SIGTERM."""
    port, num_clients, num_slow, max_tokens = map(int, sys.argv[1:5])
    asyncio.run(_run(port, num_clients, num_slow, max_tokens, Path(sys.argv[5])))


if __name__ == "__main__":
    main()

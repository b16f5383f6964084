"""Probes are answered by the acceptor as by the application; everything else gets to the application."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.model_process import ModelProcess
from loraloom.web import accepting, acceptor
from loraloom.web.accepting import IS_POSSIBLE
from loraloom.web.accepting_server import AcceptingServer, Probe
from loraloom.web.acceptor import NEW, Acceptor
from loraloom.web.connection_deadlines import ConnectionWithDeadlines
from loraloom.web.openai_api.api_errors import unhealthy
from loraloom.web.openai_api.routes import Api
from loraloom.web.ports import bind
from loraloom.web.security import Access, SecurityMiddleware

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="sockets are passed on only on Linux")
GET = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
TOLD = [200, [["content-type", "text/plain"], ["content-length", "2"]], "ok"]
STALLED = [503, [["content-length", "7"]], "stalled"]
ABOUT = {"path": "/health", "host": "127.0.0.1", "allowed_hosts": ["here"], "stalled": STALLED}
SECONDS = 20.0


class Accepted:
    """An acceptor in a thread, and what a server sees of it."""

    def __init__(self, listening: socket.socket) -> None:
        self.address = listening.getsockname()
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(SECONDS)
        self.thread = threading.Thread(target=Acceptor(listening, theirs).run, daemon=True)
        self.thread.start()
        self.tell(ABOUT)

    def tell(self, message: Any) -> None:
        self.channel.send(json.dumps(message).encode())

    def connect(self, sent: bytes) -> socket.socket:
        client = socket.create_connection(self.address, timeout=SECONDS)
        client.sendall(sent)
        return client

    def given(self) -> tuple[bytes, socket.socket | None]:
        """What the server is given next."""
        word, descriptors, _, _ = socket.recv_fds(self.channel, 16, 1)
        return word, socket.socket(fileno=descriptors[0]) if descriptors else None


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    with bind("127.0.0.1", 0) as listening:
        made = Accepted(listening)
        yield made
        made.channel.close()
        made.thread.join(SECONDS)
        assert not made.thread.is_alive()


def test_a_probe_is_answered_and_its_connection_is_passed_on(accepted: Accepted) -> None:
    accepted.tell(TOLD)
    with accepted.connect(GET) as client:
        word, connection = accepted.given()
        assert word == b"200"
        assert client.recv(1000) == (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
        )
        assert connection is not None
        with connection:  # nothing of the probe is left in it, and what follows is
            client.sendall(b"next")
            assert connection.recv(100) == b"next"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (
            b"HEAD /health HTTP/1.1\r\nHost: here:1\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nConnection: close\r\n\r\n",
        ),
        (
            b"GET /health HTTP/1.1\r\nhost: [::1]\r\nconnection: Close\r\nx: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n"
            b"Connection: close\r\n\r\nok",
        ),
    ],
)
def test_a_connection_that_ends_is_counted_and_closed(accepted: Accepted, sent: bytes, answer: bytes) -> None:
    accepted.tell(TOLD)
    with accepted.connect(sent) as client:
        assert accepted.given() == (b"200", None)
        assert client.recv(1000) == answer
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        GET[:10],
        GET[:-1],
        GET + GET,
        GET + b"x",
        GET.replace(b"/health", b"/healthy"),
        GET.replace(b"/health", b"/health?x"),
        GET.replace(b"/health", b"http://127.0.0.1/health"),
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"GET", b"POST"),
        GET.replace(b"host: 127.0.0.1\r\n", b""),
        GET.replace(b"127.0.0.1", b"evil.example"),
        GET.replace(b"127.0.0.1", b"127.0.0.1\r\nhost: evil.example"),
        GET.replace(b"127.0.0.1", b"127.0.0.1\r\ncontent-length: 0"),
        GET.replace(b"127.0.0.1", b"127.0.0.1\r\ntransfer-encoding: chunked"),
        GET.replace(b"127.0.0.1", b"127.0.0.1\r\nexpect: 100-continue"),
        GET.replace(b"127.0.0.1", b"127.0.0.1\r\nconnection: upgrade"),
        GET.replace(b"host:", b"host :"),
        b"\x16\x03\x01\r\n\r\n",
    ],
)
def test_anything_else_is_passed_on_untouched(accepted: Accepted, sent: bytes) -> None:
    accepted.tell(TOLD)
    with accepted.connect(sent):
        word, connection = accepted.given()
        assert word == NEW
        assert connection is not None
        with connection:
            connection.settimeout(SECONDS)
            assert connection.recv(1000) == sent


def test_before_the_server_has_said_anything_and_while_it_is_full_all_is_passed_on(
    accepted: Accepted,
) -> None:
    def passed_on() -> bytes:
        with accepted.connect(GET):
            word, connection = accepted.given()
            assert connection is not None
            connection.close()
            return word

    assert passed_on() == NEW
    accepted.tell(TOLD)
    assert passed_on() == b"200"
    accepted.tell(None)
    assert passed_on() == NEW


def test_a_server_that_publishes_nothing_has_stalled(
    accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted.tell(TOLD)
    monkeypatch.setattr(acceptor, "SECONDS_UNTIL_STALLED", -1.0)
    with accepted.connect(GET) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    monkeypatch.undo()
    with accepted.connect(GET) as client:
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_server_that_takes_no_connection_keeps_no_probe_waiting(accepted: Accepted) -> None:
    accepted.tell(TOLD)
    clients = [accepted.connect(b"POST / HTTP/1.1\r\n") for _ in range(500)]  # more than the channel takes
    with accepted.connect(GET) as probe:
        assert probe.recv(1000).endswith(b"ok")
    words = Counter[bytes]()
    while not words[b"200"]:
        word, connection = accepted.given()
        words[word] += 1
        assert connection is not None
        connection.close()
    assert words[NEW] == 500
    for client in clients:
        client.close()


def test_connections_that_come_together_all_wait_for_a_server_that_is_busy(accepted: Accepted) -> None:
    most = 900  # of the client, and as many of the acceptor
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * most)), hard))
    try:
        clients = [accepted.connect(b"POST / HTTP/1.1\r\n") for _ in range(most)]
        time.sleep(0.2)
        for _ in clients:
            word, connection = accepted.given()
            assert word == NEW
            assert connection is not None
            connection.close()
        for client in clients:
            client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_sockets_that_cannot_be_passed_on_for_a_moment_are_passed_on_later(
    accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, failures = socket.send_fds, [errno.ETOOMANYREFS, errno.ENOBUFS]

    def send_fds(*arguments: Any) -> int:
        if failures:
            raise OSError(failures.pop(), "")
        return send(*arguments)

    monkeypatch.setattr(socket, "send_fds", send_fds)
    with accepted.connect(b"POST / HTTP/1.1\r\n"):
        word, connection = accepted.given()
        assert (word, failures) == (NEW, [])
        assert connection is not None
        connection.close()


Ask = Callable[[bytes], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def serving(access: Access, log: list[str]) -> AsyncIterator[tuple[AcceptingServer, Api, Ask]]:
    """The application of the API behind an acceptor, without a model."""
    api = Api(ModelProcess(ModelConfiguration(run=None), max_waiting=4))
    config = uvicorn.Config(
        SecurityMiddleware(api.counted, access),
        lifespan="off",
        server_header=False,
        date_header=False,  # it may differ by a second
        http=ConnectionWithDeadlines,
        log_level="error",
        limit_concurrency=100,
    )
    with bind("127.0.0.1", 0) as listening:
        probed = Probe("/health", api.health, unhealthy("stalled", 1), access, api.metrics.count)
        server = AcceptingServer(config, listening, probed, log.append)
        running = asyncio.create_task(server._serve([]))
        address = listening.getsockname()

        async def ask(*parts: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*address)
            try:
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.05 if len(parts) > 1 else 0)
                return await asyncio.wait_for(reader.read(), SECONDS)
            finally:
                writer.close()

        try:
            yield server, api, ask
        finally:
            server.should_exit = True
            await running


def probe(method: str = "GET", host: str = "127.0.0.1") -> bytes:
    return f"{method} /health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()


async def _published(server: AcceptingServer) -> None:
    while server._accepting is None:
        await asyncio.sleep(0.01)
    await server.publish()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_in_each_state_the_acceptor_answers_as_the_application(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def compare() -> list[bytes]:
        both: list[bytes] = []
        async with serving(Access(), []) as (server, api, ask):
            await _published(server)
            for state in ("loading", "ok", "stopping"):
                monkeypatch.setattr(ModelProcess, "is_ready", state == "ok")
                api.is_stopping = state == "stopping"
                await server.publish()
                fast = await ask(probe(method))
                slow = await ask(probe(method)[:20], probe(method)[20:])
                assert fast == slow
                both.append(fast)
            counted = api.metrics.text()
            assert '{route="/health",status="200"} 2' in counted
            assert '{route="/health",status="503"} 4' in counted
        return both

    answers = asyncio.run(compare())
    assert [answer[9:12] for answer in answers] == [b"503", b"200", b"503"]
    assert all(b"content-security-policy" in answer for answer in answers)
    assert [b"retry-after" in answer for answer in answers] == [True, False, True]


def test_a_foreign_host_is_refused_and_further_requests_of_a_connection_are_answered() -> None:
    async def asked() -> tuple[bytes, bytes, bytes]:
        async with serving(Access(), []) as (server, _, ask):
            await _published(server)
            foreign = await ask(probe(host="evil.example"))
            pipelined = await ask(
                GET + b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            )
            kept = await ask(
                GET, b"POST /v1/adapters HTTP/1.1\r\nhost: ::1\r\ncontent-length: 2\r\n\r\n{}", probe()
            )
            return foreign, pipelined, kept

    foreign, pipelined, kept = asyncio.run(asked())
    assert foreign.startswith(b"HTTP/1.1 421 ")
    assert pipelined.startswith(b"HTTP/1.1 503 ")
    assert b"loraloom_models" in pipelined
    assert kept.count(b"HTTP/1.1 ") == 3


def test_a_loop_that_does_nothing_is_noticed_and_its_end_refuses_connections() -> None:
    def ask(address: tuple[str, int]) -> bytes:
        with socket.create_connection(address, timeout=SECONDS) as client:
            client.sendall(probe())
            return client.recv(2000)

    async def hang() -> tuple[bytes, bytes, tuple[str, int]]:
        async with serving(Access(), []) as (server, _, _ask):
            await _published(server)
            address = server._listening.getsockname()
            before = await asyncio.to_thread(ask, address)
            time.sleep(acceptor.SECONDS_UNTIL_STALLED + 0.5)  # in the event loop
            return before, ask(address), address

    before, after, address = asyncio.run(hang())
    assert b'{"status":"loading"}' in before
    assert after.startswith(b"HTTP/1.1 503 ")
    assert b'{"status":"stalled"}' in after
    with pytest.raises(ConnectionError):
        socket.create_connection(address, timeout=SECONDS)


def test_if_the_acceptor_dies_the_server_accepts_itself() -> None:
    async def ask_again() -> tuple[bytes, list[str]]:
        log: list[str] = []
        async with serving(Access(), log) as (server, _, ask):
            await _published(server)
            running = server._accepting
            assert running is not None
            assert running._process is not None
            running._process.terminate()  # ignored: it ends with its server
            running._process.kill()
            while not server.servers:
                await asyncio.sleep(0.01)
            answer = await ask(probe())
            await running.close()
            return answer, log

    answer, log = asyncio.run(ask_again())
    assert b'{"status":"loading"}' in answer
    assert log == ["no separate process accepts connections; the server accepts them itself"]


def test_a_server_may_open_as_many_files_as_it_may_have_connections() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def ask_together() -> list[bytes]:
        async with serving(Access(), []) as (server, _, ask):
            await _published(server)
            parts = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n", b"connection: close\r\n\r\n"
            return await asyncio.gather(*(ask(*parts) for _ in range(60)))

    num_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 60, before[1]))
    try:
        answers = asyncio.run(ask_together())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)


def test_a_file_in_the_current_folder_is_no_library_of_the_acceptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h11.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)

    async def ask_once() -> tuple[bytes, list[str]]:
        log: list[str] = []
        async with serving(Access(), log) as (server, _, ask):
            await _published(server)
            return await ask(probe()), log

    answer, log = asyncio.run(ask_once())
    assert b'{"status":"loading"}' in answer
    assert log == []
    assert not (tmp_path / "was-run").exists()


def no_channel(*_: Any) -> None:
    raise OSError(errno.EPROTONOSUPPORT, "")


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [(sys, "executable", "/nothing/here"), (accepting.socket, "socketpair", no_channel)],
)
def test_if_no_process_can_be_started_the_server_accepts_itself(
    where: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def ask_once() -> tuple[bytes, list[str]]:
        log: list[str] = []
        async with serving(Access(), log) as (server, _, ask):
            monkeypatch.setattr(where, name, value)
            while not server.started or not server.servers:
                await asyncio.sleep(0.01)
            return await ask(probe()), log

    answer, log = asyncio.run(ask_once())
    assert b'{"status":"loading"}' in answer
    assert log == ["no separate process accepts connections; the server accepts them itself"]

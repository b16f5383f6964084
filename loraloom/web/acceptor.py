"""The process that accepts a server's connections: it answers probes, and passes on everything else.

    python -m loraloom.web.acceptor LISTENING CHANNEL

Both arguments are file descriptors of inherited sockets. If the server itself answered a probe such as
`/health`, the probe would wait for several turns of a busy event loop; if a thread did, it would wait for
Python's global interpreter lock, which the thread of the loop holds even while it waits for a CPU.
"""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11

from loraloom.web.hosts import names_server

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
NEW = b"new"
MOST_MESSAGE_BYTES = 1 << 16
MOST_PROBE_BYTES = 4096
MOST_PENDING = 2048  # uvicorn's own length of the system's queue
SECONDS_UNTIL_STALLED = 5.0
SECONDS_WITHOUT_RESOURCES = 0.1
OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
# A request with one of these is not answered here, because it may have a body or change the protocol.
MATTERS = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True)
class Answer:
    """The answer to a probe.

    Args:
        content: complete HTTP response: status line, headers and body.
        status: HTTP status.
        is_last: whether the connection is closed afterwards.
    """

    content: bytes
    status: int
    is_last: bool


@dataclass
class Probes:
    """Answers to probes, as last published by the server.

    Args:
        path: path of a probe.
        host, allowed_hosts: names of the server, as in `Access`.
        stalled: status, headers and body of the answer if the server has published nothing for some seconds.
        current: status, headers and body of the current answer; None if probes are passed on.
        published: time at which `current` was published, as returned by `time.monotonic`.
    """

    path: str
    host: str
    allowed_hosts: list[str]
    stalled: list[Any]
    current: list[Any] | None = None
    published: float = 0.0

    def answer(self, first: bytes) -> Answer | None:
        """Return the answer if the first bytes of a connection are one complete, plain probe; else None."""
        starts = tuple(f"{method} {self.path} HTTP/1.1\r\n".encode() for method in ("GET", "HEAD"))
        if self.current is None or not first.startswith(starts) or not first.endswith(b"\r\n\r\n"):
            return None
        connection = h11.Connection(h11.SERVER)
        try:
            connection.receive_data(first)
            request, end = connection.next_event(), connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if not isinstance(request, h11.Request) or not isinstance(end, h11.EndOfMessage):
            return None
        if connection.trailing_data[0] or not self._is_plain(request):
            return None
        is_late = time.monotonic() - self.published > SECONDS_UNTIL_STALLED
        return _written(connection, request, self.stalled if is_late else self.current)

    def _is_plain(self, request: h11.Request) -> bool:
        headers = [(bytes(name), bytes(value)) for name, value in request.headers]
        hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
        options = {value.lower() for name, value in headers if name == b"connection"}
        return (
            MATTERS.isdisjoint(name for name, _ in headers)
            and options <= {b"close", b"keep-alive"}
            and len(hosts) == 1
            and names_server(hosts[0], self.host, self.allowed_hosts)
        )


def _written(connection: h11.Connection, request: h11.Request, told: list[Any]) -> Answer:
    """Format an answer as uvicorn does."""
    status, named, body = told
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named]
    parts = (
        h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()),
        h11.Data(data=b"" if request.method == b"HEAD" else body.encode()),
        h11.EndOfMessage(),
    )
    content = b"".join(connection.send(part) or b"" for part in parts)
    return Answer(content, status, connection.our_state is h11.MUST_CLOSE)


class Acceptor:
    """Accepts connections until the server closes the channel, and answers probes even if the server stalls.

    Args:
        listening: socket to accept from.
        channel: one end of a SOCK_SEQPACKET pair. The server sends JSON: first the constant arguments of
            `Probes`, then `current` several times per second. It receives `NEW` with each connection that
            is passed on, and the status of each probe that was answered, with its connection if still open.
    """

    def __init__(self, listening: socket.socket, channel: socket.socket) -> None:
        self._listening, self._channel = listening, channel
        self._pending: deque[tuple[bytes, socket.socket | None]] = deque()
        self._selector = selectors.DefaultSelector()
        for each in (listening, channel):
            each.setblocking(False)
            self._selector.register(each, READ)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):  # a connection is reported when its first bytes have arrived
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        self._probes: Probes | None = None

    def run(self) -> None:
        """Accept connections until the server has ended."""
        with contextlib.suppress(ConnectionError, EOFError), self._channel, self._selector, self._kept():
            while True:
                ready = {key.fileobj: events for key, events in self._selector.select()}
                events = ready.get(self._channel, 0)  # first, so that no answer is older than necessary
                if events & READ:
                    self._learn()
                if events & WRITE:
                    self._send_pending()
                if self._listening in ready:
                    self._accept()

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """On leaving the `with` block, close the connections that could not be passed on."""
        try:
            yield
        finally:
            for _, connection in self._pending:
                if connection is not None:
                    connection.close()

    def _learn(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._channel.recv(MOST_MESSAGE_BYTES):
                if self._probes is None:
                    self._probes = Probes(**json.loads(message))
                else:
                    self._probes.current, self._probes.published = json.loads(message), time.monotonic()
            raise EOFError

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                time.sleep(SECONDS_WITHOUT_RESOURCES)  # new connections wait in the system's queue
            return
        try:
            first = connection.recv(MOST_PROBE_BYTES, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except BlockingIOError:
            first = b""
        except OSError:
            connection.close()
            return
        answer = None if self._probes is None else self._probes.answer(first)
        if answer is None:
            self._pass_on(NEW, connection)
            return
        try:
            connection.recv(len(first), socket.MSG_DONTWAIT)
            is_open = connection.send(answer.content, socket.MSG_DONTWAIT) == len(answer.content)
        except OSError:
            is_open = False
        if not is_open or answer.is_last:
            connection.close()
        self._pass_on(b"%d" % answer.status, connection if is_open and not answer.is_last else None)

    def _pass_on(self, word: bytes, connection: socket.socket | None) -> None:
        if len(self._pending) < MOST_PENDING:
            self._pending.append((word, connection))
        elif connection is not None:
            connection.close()
        self._send_pending()

    def _send_pending(self) -> None:
        """Send pending connections until the channel is full; the others follow when it has room again."""
        while self._pending:
            word, connection = self._pending[0]
            try:
                socket.send_fds(self._channel, [word], [] if connection is None else [connection.fileno()])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    raise
                time.sleep(SECONDS_WITHOUT_RESOURCES)  # too many sockets of this user are in transit
                break
            self._pending.popleft()
            if connection is not None:
                connection.close()
        self._selector.modify(self._channel, READ | WRITE if self._pending else READ)


def main() -> None:
    """Accept connections for the server that started this process."""
    for each in (signal.SIGINT, signal.SIGTERM):  # the server ends this process, after all answers
        signal.signal(each, signal.SIG_IGN)
    listening, channel = (socket.socket(fileno=int(word)) for word in sys.argv[1:])
    Acceptor(listening, channel).run()


if __name__ == "__main__":
    main()

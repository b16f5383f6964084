"""A server's handle on its acceptor process: starts it, tells it what to answer, and receives connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

from loraloom.run.own_process import module_command, module_environment
from loraloom.web.acceptor import NEW

MOST_CONNECTIONS_A_TURN = 16
END_SECONDS = 5.0
IS_POSSIBLE = sys.platform == "linux"  # passing on sockets was not tested on other systems

Told = tuple[int, Iterable[tuple[bytes, bytes]], bytes]


class Accepting:
    """The acceptor process of a server, as the server sees it.

    Args:
        listening: socket that it accepts connections from.
        connected: called with each connection, and with whether a request on it has already been answered.
        probed: called with the status of each answer to a probe.
        lost: called if the process ends before `close` is called.
    """

    def __init__(
        self,
        listening: socket.socket,
        connected: Callable[[socket.socket, bool], None],
        probed: Callable[[int], None],
        lost: Callable[[], None],
    ) -> None:
        self._listening = listening
        self._connected, self._probed, self._lost = connected, probed, lost
        self._loop = asyncio.get_running_loop()
        self._channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: asyncio.subprocess.Process | None = None
        self._is_closed = False

    async def start(self, path: str, host: str, allowed_hosts: Iterable[str], stalled: Told) -> None:
        """Start the acceptor's process.

        Args:
            path, host, allowed_hosts: as in `Probes`.
            stalled: status, headers and body for probes while the event loop is stalled.

        Raises:
            OSError: the process cannot be started.
        """
        self._channel.setblocking(False)
        own = (self._listening.fileno(), self._theirs.fileno())
        try:
            self._process = await asyncio.create_subprocess_exec(
                *module_command("loraloom.web.acceptor", *map(str, own)),
                pass_fds=own,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env=module_environment(),
            )
        except OSError:
            self._leave()
            raise
        finally:
            self._theirs.close()
        about = {"path": path, "host": host, "allowed_hosts": sorted(allowed_hosts)}
        self._send({**about, "stalled": _as_json(stalled)})
        self._loop.add_reader(self._channel, self._receive)

    def publish(self, told: Told | None) -> None:
        """Set the answer to probes (None: pass them on); each call shows that the event loop is running."""
        if not self._is_closed:
            self._send(None if told is None else _as_json(told))

    async def close(self) -> None:
        """End the process; the system then refuses further connections."""
        if not self._is_closed:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # of the socket, which both processes share
            self._leave()
        process, self._process = self._process, None
        if process is not None:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _leave(self) -> None:
        self._is_closed = True
        self._loop.remove_reader(self._channel)
        self._channel.close()

    def _send(self, message: Any) -> None:
        # If the channel is full or closed, the process is busy or dead, and the next beat follows soon.
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps(message).encode())

    def _receive(self) -> None:
        for _ in range(MOST_CONNECTIONS_A_TURN):
            try:
                word, descriptors, _, _ = socket.recv_fds(self._channel, 16, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except ConnectionError:
                word, descriptors = b"", []
            if not word:
                self._leave()
                self._lost()
                return
            if word != NEW:
                self._probed(int(word))
            # There is no descriptor if this process may not open more: the client is disconnected.
            for descriptor in descriptors:
                self._connected(socket.socket(fileno=descriptor), word != NEW)


def allow_open_files(most: int) -> None:
    """Allow this process and its children to open this many files, as far as the system permits.

    The limit is often 1,024; above it, connections are lost when the acceptor passes them to the server.
    """
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _as_json(told: Told) -> list[Any]:
    status, headers, body = told
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return [status, named, body.decode()]

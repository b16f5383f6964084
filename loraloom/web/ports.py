"""The socket that a server listens on."""

from __future__ import annotations

import errno
import os
import socket

from loraloom.errors import LoRALoomError
from loraloom.text.message import Message


def bind(host: str, port: int, num_ports: int = 1) -> socket.socket:
    """Listen on a port, or on the first free one of several.

    The socket starts to listen immediately, because two servers can bind one port as long as neither listens.

    Args:
        host: an address or name of this machine.
        port: the first port; 0 for any free one.
        num_ports: number of consecutive ports to try while they are in use.

    Raises:
        LoRALoomError: the ports are in use, or the address does not belong to this machine.
    """
    last = min(port + num_ports - 1, 65535)
    for number in range(port, last + 1):
        try:
            return _bound(host, number)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and number < last:
                continue
            raise LoRALoomError(
                Message("the address cannot be used: {reason}", reason=error.strerror or str(error)),
                where=f"{host}:{number}",
                fix=Message("Choose another one with --port or --host."),
            ) from None
    raise AssertionError  # the last port is either bound or refused


def _bound(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    made = socket.socket(family, kind)
    try:
        if os.name == "posix":  # on Windows, the option would share a port that another server uses
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()
    except OSError:
        made.close()
        raise
    return made

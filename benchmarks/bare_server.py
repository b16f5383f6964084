"""A server that only says `ok`, to measure what any probe takes on a busy machine: the port is printed.

python -m benchmarks.bare_server
"""

from __future__ import annotations

import contextlib
import socket

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"


def main() -> None:
    """Answer until the process is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(ANSWER)


if __name__ == "__main__":
    main()

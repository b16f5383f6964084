"""What a process does that reading a folder must never do, seen by Python's own audit events.

They are raised inside the interpreter (https://docs.python.org/3/library/audit_events.html), so that no
library can go around them, and a name that was patched in one module is not missed in another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
PICKLES = {"pickle.find_class"}
# How Python's own `platform.platform()` learns the processor's name.
PLATFORMS_OWN = ["uname", "-p"]


def watch(log: Path, foreign: Path) -> None:
    """From now on, write a line to the log for whatever is done; what would reach the network fails.

    Args:
        log: a file; it stays away while nothing happens.
        foreign: a folder none of whose files may be run.
    """
    inside = f"{os.path.realpath(foreign)}{os.sep}"

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and args[1] == PLATFORMS_OWN:
            return
        if event in NETWORK or event in PROCESSES or event in PICKLES:
            _write(log, f"{event} {args!r}"[:500])
        elif event in ("exec", "compile"):
            file = args[0].co_filename if event == "exec" else args[1]
            is_file = isinstance(file, str) and not file.startswith("<")
            if is_file and os.path.realpath(file).startswith(inside):
                _write(log, f"{event} {file}")
        if event in NETWORK:
            raise ConnectionRefusedError("no network in this test")

    sys.addaudithook(hook)


def _write(log: Path, line: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)

"""Whole processes, timed as a user would wait for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LORALOOM = str(Path(sys.executable).with_name("loraloom"))


@dataclass(frozen=True)
class Measured:
    """One process, or several one after the other."""

    seconds: float
    peak_bytes: int


def run(command: Sequence[str]) -> Measured:
    """One process: its time, and its peak as the kernel counted it.

    Raises:
        SystemExit: it failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Measured(time.perf_counter() - begun, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def together(measured: Iterable[Measured]) -> Measured:
    """Processes one after the other, as one."""
    each = list(measured)
    return Measured(sum(m.seconds for m in each), max(m.peak_bytes for m in each))

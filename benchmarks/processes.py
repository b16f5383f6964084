"""Whole processes, timed as a user would wait for them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LORALOOM = Path(sys.executable).with_name("loraloom")


@dataclass(frozen=True)
class ProcessCost:
    """One process, or several one after the other."""

    seconds: float
    peak_bytes: int


def run(*command: object) -> ProcessCost:
    """One process: its time, and its peak as the kernel counted it.

    Raises:
        SystemExit: it failed.
    """
    words = [str(word) for word in command]
    begun = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return ProcessCost(seconds, peak_bytes(usage))


def train(recipe: Mapping[str, Any], out: Path) -> ProcessCost:
    """`loraloom train` of a recipe, which is written beside the run.

    Args:
        out: the run.
    """
    file = out.with_suffix(".yaml")
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return run(LORALOOM, "train", file, "--out", out)


def python(*words: object) -> ProcessCost:
    """This interpreter with these words: `-c`, and what it is to do; or `-m`, and a module."""
    return run(sys.executable, *words)


def together(measured: Iterable[ProcessCost]) -> ProcessCost:
    """Processes one after the other, as one."""
    each = list(measured)
    return ProcessCost(sum(m.seconds for m in each), max(m.peak_bytes for m in each))


def peak_bytes(usage: resource.struct_rusage) -> int:
    """The resident set's highest mark, which macOS counts in bytes and Linux in KiB."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

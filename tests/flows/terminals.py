"""Command lines as a shell has them: in an interpreter of their own, and on a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

from tests.faults.warm import REPOSITORY

HEAVY = ("torch", "transformers", "peft", "datasets", "numpy", "sacrebleu", "pyarrow")
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
SECONDS_TO_HEAR = 0.2


def fresh(*argv: str | Path, cwd: Path = REPOSITORY, **env: str) -> subprocess.CompletedProcess[str]:
    """`loraloom …` in a new interpreter; stderr ends with the heavy modules that were imported."""
    listing = f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr))"
    program = f"import atexit, sys; {listing}; from loraloom.cli import main; main()"
    command = [sys.executable, "-c", program, *map(str, argv)]
    everything = {**os.environ, "PYTHONPATH": str(REPOSITORY), **env}
    return subprocess.run(
        command, cwd=cwd, env=everything, capture_output=True, encoding="utf-8", check=False
    )


class Terminal:
    """A terminal that somebody listens to.

    Args:
        path: what a command line writes to.
    """

    def __init__(self) -> None:
        self._master, self._other = os.openpty()
        self.path = Path(os.ttyname(self._other))
        self._heard: list[bytes] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        try:
            while content := os.read(self._master, 65536):
                self._heard.append(content)
        except OSError:
            return

    @property
    def written(self) -> str:
        """All of it, escape sequences too."""
        self._listener.join(SECONDS_TO_HEAR)  # it ends with the terminal; what is on its way comes sooner
        return b"".join(self._heard).decode()

    @property
    def shown(self) -> str:
        """What a person reads."""
        return ESCAPE_SEQUENCE.sub("", self.written)

    def close(self) -> None:
        """Hang up."""
        os.close(self._other)
        os.close(self._master)

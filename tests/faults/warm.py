"""Command lines in children of a warm process: real processes, real signals, no imports to wait for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command line ended.

    Args:
        code: its exit code, or minus the signal that ended it.
    """

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Started:
    """A command line that is running."""

    warm: Warm
    pid: int
    stdout: Path
    stderr: Path

    def wait(self) -> Ended:
        """Until it ends."""
        code = self.warm.ask({"wait": self.pid})["code"]
        return Ended(
            code, *(p.read_text(encoding="utf-8") if p.is_file() else "" for p in (self.stdout, self.stderr))
        )

    def until(self, condition: Callable[[], bool]) -> None:
        """Until something has become true."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z" or time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"waited in vain: {self.wait()}")
            time.sleep(0.01)


class Warm:
    """The parent's end of a zygote.

    Args:
        scratch: a folder for what the command lines say.
    """

    def __init__(self, scratch: Path):
        self.scratch = scratch
        self.number = 0
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.zygote"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One line there, one line back."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def start(
        self,
        *argv: str | Path,
        cwd: Path,
        faults: dict[str, Any] | None = None,
        stdout: Path | None = None,
        stderr: Path | None = None,
        **env: str,
    ) -> Started:
        """Start `loraloom …` in a child.

        Args:
            argv: after the program's name.
            faults: as `tests.faults.zygote` takes them.
            stdout, stderr: a pipe or a terminal in the place of a file.
            env: to set; PYTHONIOENCODING counts.
        """
        self.number += 1
        stdout = stdout or self.scratch / f"{self.number}.out"
        stderr = stderr or self.scratch / f"{self.number}.err"
        job = {
            "argv": [str(word) for word in argv],
            "cwd": str(cwd),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "env": env,
            "faults": faults or {},
        }
        return Started(self, self.ask(job)["pid"], stdout, stderr)

    def call(self, *argv: str | Path, cwd: Path, **how: Any) -> Ended:
        """`start` and wait."""
        return self.start(*argv, cwd=cwd, **how).wait()

    def close(self) -> None:
        """End the zygote."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()  # it holds nothing, and takes seconds to tear down what it imported
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

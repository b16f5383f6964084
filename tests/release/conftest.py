"""An environment with nothing but the wheel; run by `make dist`, which sets LORALOOM_WHEEL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

WHEEL = os.environ.get("LORALOOM_WHEEL", "")
if not WHEEL:
    collect_ignore_glob = ["*"]


@dataclass(frozen=True)
class Installed:
    """The wheel, installed outside of the checkout.

    Args:
        folder: the environment.
        work: an empty folder, in which everything runs.
    """

    folder: Path
    work: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *argv: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, without anything of this process's own."""
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR", "LANG") if key in os.environ}
        program = self.folder / "bin" / argv[0]
        return subprocess.run(
            [program, *map(str, argv[1:])],
            cwd=self.work,
            env=kept | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2", **more},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed") / "environment"
    subprocess.run(
        [sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder], check=True
    )
    install = ["pip", "install", "--quiet", "--python", folder / "bin" / "python", WHEEL]
    subprocess.run([sys.executable, "-m", "uv", *install], check=True)
    return Installed(folder, tmp_path_factory.mktemp("work"))


@pytest.fixture
def loraloom(installed: Installed) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`loraloom …` as users call it."""

    def call(*argv: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return installed.run("loraloom", *argv, **more)

    return call

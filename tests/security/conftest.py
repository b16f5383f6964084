"""Command lines that are watched, and could reach the network if they tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.warm import Ended, Warm
from tests.flows.conftest import Project, make_project
from tests.tiny import SHALLOW


@pytest.fixture(scope="session")
def online_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home and temporary folder of the command lines, so that one can see what they leave there."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def online(tmp_path_factory: pytest.TempPathFactory, online_home: Path) -> Iterator[Warm]:
    """Children of a process that was not told to stay offline, as a user's is not."""
    with pytest.MonkeyPatch.context() as patch:
        # Set, though to no: then a merge measures its proof in the command's process, which is watched,
        # unless a test asks for a fresh one.
        patch.setenv("HF_HUB_OFFLINE", "0")
        for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME"):
            patch.setenv(name, str(online_home))
        process = Warm(tmp_path_factory.mktemp("online"))
    yield process
    process.close()


# A run is trained, and answers, as little as it can.
SHORT = ("--set", "training.max_steps=1", "--set", "generation.max_new_tokens=2")


@dataclass(frozen=True)
class Watched:
    """A project whose command lines are watched.

    Args:
        log: what they did that they must not do; not there while they did nothing.
        canary: a file that hostile code would make.
    """

    project: Project
    log: Path
    canary: Path

    def call(self, *argv: str | Path, faults: dict[str, Any] | None = None, **how: Any) -> Ended:
        """`loraloom …`; no file of the project's folder may be run."""
        watching = {"watch": str(self.log), "foreign": str(self.project.folder)}
        return self.project.call(*argv, faults={**watching, **(faults or {})}, **how)

    def assert_nothing_happened(self) -> None:
        """No code ran, and the network was not touched."""
        assert not self.canary.exists(), "hostile code ran"
        assert not self.log.exists(), self.log.read_text()


@pytest.fixture
def watched(online: Warm, tiny: Callable[[str], Path], tmp_path: Path) -> Watched:
    folder = tmp_path / "project"
    folder.mkdir()
    return Watched(make_project(online, folder, tiny(SHALLOW)), tmp_path / "log", tmp_path / "canary")


@pytest.fixture(scope="session")
def ready(online: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    project = make_project(online, tmp_path_factory.mktemp("ready"), tiny(SHALLOW))
    ended = project.call("train", "recipe.yaml", "--out", "run", *SHORT)
    assert ended.code == 0, ended.stderr
    return project.folder / "run"

"""One server for all tests that need one; a test that ends it makes the next test start another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.trained import train_small
from tests.web.live import TOKEN, LiveServer


@dataclass(frozen=True)
class Served:
    """A run with the adapters a and b, and a folder with one more that can be attached."""

    run: Path
    words: tuple[str | Path, ...]


@pytest.fixture(scope="session")
def served(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Served:
    place = tmp_path_factory.mktemp("served")
    run = train_small(place / "trained", tiny("mt5"), ["a", "b"])
    allowed = place / "allowed"
    shutil.copytree(run / "adapters" / "b", allowed / "more" / "c")
    token = place / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return Served(run, ("--token-file", token, "--adapters-from", allowed, "--queue", "64", "--grace", "20"))


@pytest.fixture(scope="session")
def start_server(served: Served) -> Iterator[Callable[..., LiveServer]]:
    """Starts a server of the run, or returns the one that is running.

    `start_server(whole=False)`: also one whose adapters a test has changed.
    """
    running: list[LiveServer] = []

    def start(*, whole: bool = True) -> LiveServer:
        if running and running[-1].is_running and running[-1].is_changed and whole:
            running[-1].process.terminate()
            running[-1].process.wait(20)
        if not running or not running[-1].is_running:
            running.append(LiveServer(served.run, *served.words))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(start_server: Callable[..., LiveServer]) -> LiveServer:
    return start_server()


@pytest.fixture
def server_to_end(start_server: Callable[..., LiveServer]) -> LiveServer:
    """A server that a test may end; it has the adapter b, and perhaps others."""
    return start_server(whole=False)

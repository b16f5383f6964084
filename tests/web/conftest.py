"""One server for all tests that need one; a test that ends it makes the next test start another."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands.trained import train_small
from tests.web.live import TOKEN, LiveServer


@pytest.fixture(scope="session")
def start_server(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], LiveServer]]:
    """Starts a server of a tiny run with two adapters, or returns the one that is running."""
    place = tmp_path_factory.mktemp("served")
    run = train_small(place / "trained", tiny("mt5"), ["a", "b"])
    allowed = place / "allowed"
    shutil.copytree(run / "adapters" / "b", allowed / "more" / "c")
    token = place / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    running: list[LiveServer] = []

    def start() -> LiveServer:
        if not running or not running[-1].is_running:
            words = "--token-file", token, "--adapters-from", allowed, "--queue", "64", "--grace", "20"
            running.append(LiveServer(run, *words))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(start_server: Callable[[], LiveServer]) -> LiveServer:
    return start_server()

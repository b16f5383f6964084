"""Pages over stored runs: no model is loaded and no process is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loraloom.web.pages.application import make_access, make_application

OLD_RUNS = Path(__file__).resolve().parents[2] / "old_runs" / "v0.1"


def copy_run(name: str, runs: Path) -> Path:
    """A run of an earlier version with its data where its recipe says that they are."""
    shutil.copytree(OLD_RUNS / name, runs / name)
    for file in ("recipe.yaml", "provenance.json"):
        path = runs / name / file
        path.write_text(path.read_text(encoding="utf-8").replace("OLD_RUNS", str(OLD_RUNS)), encoding="utf-8")
    return runs / name


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def client(runs: Path) -> Iterator[TestClient]:
    with open_client(runs) as opened:
        yield opened


def open_client(runs: Path, token: str | None = None) -> TestClient:
    application = make_application(runs, make_access("127.0.0.1", token))
    return TestClient(application, base_url="http://127.0.0.1:8700")


@pytest.fixture
def form_token(client: TestClient) -> Callable[[], str]:
    def read() -> str:
        return client.get("/new").text.partition('name="form_token" value="')[2].partition('"')[0]

    return read

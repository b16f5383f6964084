"""A server of the pages and the system's Chromium; run by `make browser`, which sets LORALOOM_BROWSER."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.pages.conftest import copy_run

CHROMIUM = os.environ.get("LORALOOM_BROWSER", "")
ROOT = Path(__file__).resolve().parents[2]
if not CHROMIUM:
    collect_ignore_glob = ["*"]

LEVELS = ("error", "warning")
PATIENCE = 90_000  # milliseconds; a training imports torch first


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser") / "runs"
    folder.mkdir()
    for name in ("finished", "finished-interrupted", "search", "range_test"):
        copy_run(name, folder)
    copy_run("tsv", folder)
    (folder / "tsv" / "provenance.json").write_text("{", encoding="utf-8")  # a damaged run
    return folder


@pytest.fixture(scope="session")
def address(runs: Path) -> Iterator[str]:
    """Address of a server in a process of its own."""
    code = "from loraloom.cli import main; main()"
    command = [sys.executable, "-c", code, "ui", "--runs", str(runs), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        yield found[0]
        process.terminate()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container has no user namespaces for the sandbox; these are our own pages.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that fails the test if the browser complains of anything, a refused script or style among it."""
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type in LEVELS else None)
    opened.on("pageerror", lambda error: complaints.append(error.stack or str(error)))
    yield opened
    context.close()
    assert not complaints

"""Take the pictures of docs/images from the pages of a run of `loraloom demo`, in the system's Chromium.

    make pictures

Look at the pictures afterwards: spacing, contrast, long texts.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "docs" / "images"
VIEW = {"width": 1120, "height": 760}
REPORT_VIEW = {"width": 1200, "height": 1500}
PATIENCE = 120_000  # milliseconds; the first question loads the models
PROMPT = "最近学校压力很大，晚上睡不着，怎么办？"
WRONG = ("learning_rate:", "learnin_rate:")


@contextmanager
def pages_of(runs: Path) -> Iterator[str]:
    """Start the pages over a folder of runs; yield their address."""
    command = [sys.executable, "-m", "loraloom", "ui", "--runs", str(runs), "--port", "0"]
    environment = os.environ | {"LORALOOM_LANG": "en"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        if found is None:
            raise SystemExit("the pages did not start")
        try:
            yield found[0]
        finally:
            process.terminate()


def take(browser: Any, address: str, run: Path) -> None:
    """Take the pictures of one run's pages, and of its report."""
    context = browser.new_context(base_url=address, viewport=VIEW)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto("/runs")
    page.screenshot(path=IMAGES / "ui-runs.png")
    page.goto(f"/runs/{run.name}")
    page.locator("svg.plot").first.wait_for()
    page.screenshot(path=IMAGES / "ui-run.png", full_page=True)
    page.goto(f"/runs/{run.name}/data")
    page.get_by_text("tokens counted in the loss").first.click()
    page.screenshot(path=IMAGES / "ui-data.png")
    take_new_run(page)
    take_vote(page, run)
    page.set_viewport_size(REPORT_VIEW)
    page.goto((run / "report.html").resolve().as_uri())
    page.screenshot(path=IMAGES / "report.png")
    context.close()


def take_new_run(page: Any) -> None:
    """Show a recipe with a misspelt setting, and its problem beside the line."""
    from loraloom.starter import data_file

    page.goto("/new")
    page.set_input_files("#data", data_file("train"))
    page.get_by_role("button", name="Examine the data").click()
    page.get_by_text("The recipe is valid.").wait_for()
    page.fill("#recipe", page.input_value("#recipe").replace(*WRONG, 1))
    page.get_by_text("unknown key").first.wait_for()
    page.locator("#recipe").scroll_into_view_if_needed()
    page.screenshot(path=IMAGES / "ui-new.png")


def take_vote(page: Any, run: Path) -> None:
    """Ask the base and the adapters one question, blind."""
    page.goto(f"/runs/{run.name}/compare")
    page.fill("#prompt", PROMPT)
    page.check("#blind")
    page.click("#ask")
    page.get_by_text("This is the best").first.wait_for()
    page.screenshot(path=IMAGES / "ui-compare.png")


def main() -> None:
    """Take all pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder with a run of the demo")
    runs = parser.parse_args().runs
    found = max(runs.glob("demo*/report.html"), key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        raise SystemExit(f"{runs} has no run of `loraloom demo`")
    with pages_of(runs) as address, sync_playwright() as playwright:
        # A container has no user namespaces for the sandbox; these are our own pages.
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("LORALOOM_BROWSER"), args=["--no-sandbox"]
        )
        take(browser, address, found.parent)
        browser.close()


if __name__ == "__main__":
    main()

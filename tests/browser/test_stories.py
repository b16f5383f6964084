"""What people do with the pages, in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from loraloom.text.language import catalogue_of
from tests.browser.conftest import PATIENCE

ROWS = [{"instruction": f"如何处理焦虑 {n}?", "response": f"先深呼吸 {n}。"} for n in range(24)]
RECIPE = """\
model_name_or_path: starter
data: {train: rows.json, eval: 4, max_source_length: 32, max_target_length: 16}
training: {num_train_epochs: 3, per_device_train_batch_size: 4, learning_rate: 1.0e-3}
experiments: {wide: {lora: {r: 8}}, narrow: {lora: {r: 2}}}
"""
# Four words or more of English beside each other; commands are English in every language.
ENGLISH = re.compile(r"(?:\b[A-Za-z]{2,}[,;:]? +){3,}[A-Za-z]{2,}")
PAGES = (
    "/runs",
    "/new",
    "/runs/finished",
    "/runs/finished-interrupted",
    "/runs/finished/experiments",
    "/runs/search/experiments",
    "/runs/range_test/experiments",
    "/runs/finished/data",
    "/runs/finished/compare",
    "/runs/tsv",
)


def type_recipe(page: Any, text: str, expected: Any) -> None:
    """Replace the recipe, and wait until the page shows what is expected of it."""
    page.fill("#recipe", text)
    expected.wait_for()


def in_chinese(text: str) -> str:
    return catalogue_of("zh").gettext(text)


def is_english_sentence(line: str) -> bool:
    return ENGLISH.search(line) is not None and not line.startswith("loraloom ")


def test_from_a_data_file_to_the_comparison(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    page.goto("/runs")
    page.get_by_role("link", name="New run").first.click()
    page.set_input_files("#data", file)
    page.get_by_role("button", name="Examine the data").click()
    page.get_by_text("The recipe is valid.").wait_for()

    type_recipe(page, RECIPE.replace("r: 8", "r: x"), page.get_by_text("must be a whole number").first)
    type_recipe(page, RECIPE, page.get_by_text("The recipe is valid."))

    page.click("#check")
    page.get_by_role("heading", name="Ready").wait_for()
    page.click("#start")
    page.wait_for_url("**/runs/rows-*")
    page.locator("#compare-rows").wait_for()  # the page follows the training to its end by itself
    assert page.locator("svg.plot").count() == 3
    assert page.locator("table.live tbody tr").count() == 2

    page.click("#compare-rows")
    page.get_by_role("link", name="Details").wait_for()
    page.get_by_role("link", name="Experiments").click()
    page.locator("#answers .row").first.wait_for()
    page.get_by_role("link", name="Data").click()
    page.get_by_text("tokens counted in the loss").first.click()
    page.locator(".tokens li:visible").first.wait_for()

    page.get_by_role("link", name="Compare").click()
    page.fill("#prompt", "如何处理焦虑？")
    page.check("#blind")
    page.click("#ask")
    page.get_by_text("This is the best").first.wait_for()
    assert "wide" not in page.locator(".answer-grid").inner_text()
    page.get_by_text("This is the best").first.click()
    page.get_by_text("your choice").wait_for()
    assert "1 of 1" in page.locator("#votes").inner_text()


def test_what_is_typed_before_the_script_listens_is_validated(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "early.json"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    page.goto("/new")
    page.set_input_files("#data", file)
    page.get_by_role("button", name="Examine the data").click()
    page.get_by_text("The recipe is valid.").wait_for()
    held: list[Any] = []
    page.route("**/htmx.min.js", lambda route: held.append(route))
    with page.expect_request("**/htmx.min.js"):
        page.goto(page.url, wait_until="commit")
    page.fill("#recipe", RECIPE.replace("r: 8", "r: x"))
    assert page.get_by_text("must be a whole number").count() == 0
    (script,) = held
    script.continue_()
    page.get_by_text("must be a whole number").first.wait_for()


def test_a_training_that_cannot_start_says_why(page: Any, tmp_path: Path) -> None:
    file = tmp_path / "few.json"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    page.goto("/new")
    page.set_input_files("#data", file)
    page.get_by_role("button", name="Examine the data").click()
    page.fill("#recipe", RECIPE.replace("rows.json", "gone.json"))
    page.click("#start")
    page.get_by_role("heading", name="could not start").wait_for()
    assert "gone.json" in page.get_by_role("alert").inner_text()
    page.goto("/runs")
    page.get_by_text("A training run could not start.").wait_for()
    page.get_by_role("button", name="Dismiss").click()
    page.wait_for_load_state()
    assert page.get_by_text("A training run could not start.").count() == 0


def test_a_training_that_fails_midway_or_is_killed_says_why_and_is_resumed(
    page: Any, runs: Path, tmp_path: Path
) -> None:
    file = tmp_path / "midway.json"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    page.goto("/new")
    page.set_input_files("#data", file)
    page.get_by_role("button", name="Examine the data").click()
    page.get_by_text("The recipe is valid.").wait_for()
    long = RECIPE.replace("rows.json", "midway.json").replace("num_train_epochs: 3", "num_train_epochs: 40")
    type_recipe(page, long, page.get_by_text("The recipe is valid."))
    page.click("#start")
    page.wait_for_url("**/runs/midway-*")
    run = runs / page.url.rpartition("/")[2]
    learning = page.locator("table.live tbody tr", has_text=re.compile(r"\d / 200")).first
    learning.wait_for()
    (run / "checkpoints").rename(run / "aside")
    (run / "checkpoints").touch()  # as a disk that fails: no checkpoint can be written

    page.get_by_text("The training failed.").wait_for()
    assert "Not a directory" in page.locator(".failed-start").inner_text()
    assert page.locator("svg.plot").count() == 3  # what it had learned until then stays to be seen
    (run / "checkpoints").unlink()
    (run / "aside").rename(run / "checkpoints")
    page.click("#resume")
    page.locator("#stop").wait_for()
    assert page.get_by_text("The training failed.").count() == 0

    os.kill(int((run / ".lock").read_text().split()[0]), signal.SIGKILL)
    page.get_by_text("Resuming failed.").wait_for()
    assert "killed, possibly for lack of memory" in page.locator(".failed-start").inner_text()
    page.click("#resume")
    page.locator("#compare-rows").wait_for()
    assert page.locator(".failed-start").count() == 0
    assert page.locator("table.live tbody tr", has_text="200 / 200").count() == 2


def test_a_refused_button_says_why(browser: Any, address: str, tmp_path: Path) -> None:
    """Not with `page`, because a browser complains of every refusal."""
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(ROWS), encoding="utf-8")
    with browser.new_context(base_url=address) as context:
        page = context.new_page()
        page.goto("/new")
        page.set_input_files("#data", file)
        page.get_by_role("button", name="Examine the data").click()
        page.wait_for_url("**/new/*")  # loaded as a whole: the form of the page before is another one
        page.evaluate("for (const each of document.getElementsByName('form_token')) each.value = '1.2'")
        page.click("#check")
        page.locator("#checks").get_by_text("The form is too old").wait_for()
        assert "rows.json" in page.input_value("#recipe")


def test_a_chinese_story_has_no_english_sentence(browser: Any, address: str, tmp_path: Path) -> None:
    file = tmp_path / "心理.json"
    file.write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    with browser.new_context(base_url=address, viewport={"width": 390, "height": 844}) as context:
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto("/runs")
        page.click("button[name=language][value=zh]")
        page.locator("html[lang^=zh]").wait_for()
        seen = list[str]()  # not the list, whose runs have stored sentences of an earlier version
        page.get_by_role("link", name=in_chinese("New run")).first.click()
        page.set_input_files("#data", file)
        seen.append(page.inner_text("body"))
        page.locator("form[action='/new/upload'] button").click()
        page.locator("#recipe").wait_for()
        seen.append(page.inner_text("body"))
        type_recipe(
            page,
            RECIPE.replace("rows.json", "心理.json").replace("r: 8", "r: x"),
            page.locator("#recipe-problems .said").get_by_text("lora.r"),
        )
        seen.append(page.locator("#recipe-problems").inner_text())
        type_recipe(
            page,
            RECIPE.replace("rows.json", "心理.json"),
            page.get_by_text(in_chinese("The recipe is valid.")),
        )
        page.click("#check")
        page.get_by_role("heading", name=in_chinese("Ready")).wait_for()
        seen.append(page.locator("#checks").inner_text())
        page.click("#start")
        page.wait_for_url("**/runs/**")
        page.locator("#compare-rows").wait_for()
        seen.append(page.inner_text("body"))
        page.click("#compare-rows")
        page.get_by_role("link", name=in_chinese("Details")).wait_for()
        seen.append(page.inner_text("body"))
        run = page.url
        for room in ("experiments", "data", "compare"):
            page.goto(f"{run}/{room}")
            seen.append(page.inner_text("body"))
    found = [line for text in seen for line in text.splitlines() if is_english_sentence(line)]
    assert not found


def test_a_damaged_run_is_named(page: Any) -> None:
    page.goto("/runs")
    assert page.locator(".state-damaged").count() == 1
    page.goto("/runs/tsv")
    assert "provenance.json" in page.locator(".problems").inner_text()


@pytest.mark.parametrize("path", PAGES)
def test_every_page_fits_a_phone_and_has_no_serious_fault(page: Any, path: str) -> None:
    axe = Path(__file__).resolve().parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            page.goto(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            # Through the debugger, since the pages' policy refuses a script that is added to them.
            page.evaluate(axe.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run()")
            serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
            assert not [(each["id"], [node["html"][:150] for node in each["nodes"]][:3]) for each in serious]


def test_the_keyboard_is_enough(page: Any) -> None:
    page.goto("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.goto("/runs/finished/compare")
    page.focus("#prompt")
    page.keyboard.type("学校压力很大")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # blind
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    page.get_by_text("This is the best").first.wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "No difference":
            break
    page.keyboard.press("Enter")
    page.locator("#votes").wait_for()
    assert page.locator("#votes").inner_text().count("0 of 1") == 3

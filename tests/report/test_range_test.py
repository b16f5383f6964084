"""The range test on a page: its own, and that of a run that it speaks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.report.content import read_content
from loraloom.report.markdown import render_markdown
from loraloom.report.page import render_page
from tests.report.other_runs import REASON, make_range_test
from tests.report.parsed import Page
from tests.report.runs import make_run


def test_its_own_page_has_plot_suggestion_and_reason(tmp_path: Path) -> None:
    run = make_range_test(tmp_path / "rates")
    page = Page(render_page(read_content(run.folder)))
    assert REASON in page.words
    assert "--set training.learning_rate=0.001" in page.words
    assert len(page.classes("cross")) == 1
    assert len(page.classes("level")) == 1
    assert "No answers have been compared" not in page.words
    assert REASON.removesuffix(".") in render_markdown(read_content(run.folder)).replace("\\", "")


def test_a_run_beside_it_on_the_same_base_data_and_adapter_shows_it_too(tmp_path: Path) -> None:
    make_range_test(tmp_path / "rates")
    run = make_run(tmp_path / "run")
    content = read_content(run.folder)
    assert content.range_test is not None
    assert content.range_test.run == "rates"
    page = Page(render_page(content))
    assert "From the run rates" in page.words
    assert len(page.classes("mark")) == 2  # the rates of its two experiments
    assert "Verdict" in page.words


@pytest.mark.parametrize("kind", ["adapter", "base", "data"])
def test_a_run_on_anything_else_does_not(tmp_path: Path, kind: str) -> None:
    other = make_range_test(tmp_path / "rates", "lora: {r: 3}\n" if kind == "adapter" else "")
    known = json.loads(other.provenance_file.read_text(encoding="utf-8"))
    if kind == "base":
        known["base"]["fingerprint"] = "63" * 32
    if kind == "data":
        known["data"] = {"other.json": "aa" * 32}
    other.provenance_file.write_text(json.dumps(known), encoding="utf-8")
    assert read_content(make_run(tmp_path / "run").folder).range_test is None


def test_one_that_is_damaged_is_an_error_of_its_own_run_alone(tmp_path: Path) -> None:
    run = make_range_test(tmp_path / "rates")
    (run.folder / "range_test.json").write_text('{"format": 1}', encoding="utf-8")
    assert read_content(make_run(tmp_path / "run").folder).range_test is None
    with pytest.raises(RunError, match=r"range_test\.json"):
        read_content(run.folder)

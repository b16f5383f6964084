"""A search's page: every trial, what failed with its reason, and the best as a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.commands.report import write_report
from loraloom.errors import RunError
from loraloom.recipe.reading import read_recipe
from loraloom.report.content import read_content
from loraloom.report.markdown import render_markdown
from loraloom.report.page import render_page
from tests.report.other_runs import make_search
from tests.report.parsed import Page
from tests.report.runs import FOLDER


def test_every_trial_is_there_the_best_first_and_what_failed_says_why(tmp_path: Path) -> None:
    run = make_search(tmp_path / "run")
    search = read_content(run.folder).search
    assert search is not None
    assert [trial.name for trial in search.trials] == ["trial-0002", "trial-0000", "trial-0001", "trial-0003"]
    page = Page(render_page(read_content(run.folder)))
    assert "trial-0003 failed: loss nan at step 3" in page.words
    assert FOLDER not in page.words
    assert "4 of 4 trials have ended" in page.words
    assert "importance 80 %" in page.words


def test_each_setting_has_a_chart_with_a_mark_for_every_trial(tmp_path: Path) -> None:
    page = Page(render_page(read_content(make_search(tmp_path / "run").folder)))
    assert len(page.classes("small")) == 2
    assert len(page.classes("cross")) == 2  # the failed one, in both
    assert len(page.classes("hollow")) == 2  # the pruned one


def test_the_best_trial_is_a_recipe_and_its_evidence_is_not_overstated(tmp_path: Path) -> None:
    run = make_search(tmp_path / "run")
    content = read_content(run.folder)
    assert content.advice.experiment == "trial-0002"
    assert "It was selected on the eval rows, with one seed" in content.advice.sentence
    assert read_recipe(write_report(run.folder, "recipe")).training.learning_rate == 1e-3
    assert "trial-0002" in render_markdown(content)


def test_what_a_comparison_says_goes_before_what_the_search_says(tmp_path: Path) -> None:
    run = make_search(tmp_path / "run", compare=("test",))
    file = run.comparisons / "test.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["recommendation"] = {"experiment": None, "sentence": "No configuration answers better."}
    file.write_text(json.dumps(document), encoding="utf-8")
    content = read_content(run.folder)
    assert content.advice.experiment is None
    assert content.advised_recipe == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9}', '{"format": 1, "trials": [{}]}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    run = make_search(tmp_path / "run")
    (run.folder / "search.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"search\.json"):
        read_content(run.folder)


def test_means_are_over_the_trials_that_came_to_their_end(tmp_path: Path) -> None:
    search = read_content(make_search(tmp_path / "run").folder).search
    assert search is not None
    levels = {str(level.value): level for level in search.levels("lora.target_modules")}
    assert levels["all-linear"].mean == 2.3
    assert len(levels["all-linear"].experiments) == 1  # the pruned one is out
    assert set(levels) == {"all-linear", "['q', 'v']"}
    assert "2 completed trials (1 stopped early, 1 failed)" in search.sentence

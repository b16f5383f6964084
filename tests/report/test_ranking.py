"""The ranking: best first, certain or not, and what each experiment cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.report.content import read_content
from loraloom.report.page import render_page
from loraloom.report.training_view import shared_seconds
from loraloom.run.events import Evaluation
from tests.events import train_step
from tests.report.parsed import Page
from tests.report.runs import STEPS, make_run


def test_a_tick_is_shared_out_by_tokens() -> None:
    events = [
        train_step(1, "a", num_tokens=300, tokens_per_second=150.0),
        train_step(1, "b", num_tokens=100, tokens_per_second=50.0),
        train_step(2, "a", num_tokens=10, tokens_per_second=10.0),
        Evaluation(step=2, experiment="a", experiment_step=2, epoch=1.0, figures={"eval_loss": 1.0}),
    ]
    assert shared_seconds(events) == pytest.approx({"a": 1.5 + 1.0, "b": 0.5})


def test_places_have_the_figure_its_interval_and_the_way_to_the_first(tmp_path: Path) -> None:
    ranking = read_content(make_run(tmp_path / "run").folder).ranking
    assert ranking is not None
    assert (ranking.metric, ranking.is_judged) == ("chrf", True)
    first, second = ranking.places
    assert (first.experiment, first.value, first.interval) == ("wide", 31.4, (30.4, 32.4))
    assert first.from_best is None
    assert second.word == "did nothing"
    assert second.from_best is not None
    assert second.from_best.difference == -first.from_base.difference  # type: ignore[union-attr]
    assert second.from_best.verdict == "worse"


def test_costs_are_the_seeds_together_and_all_is_shared_out(tmp_path: Path) -> None:
    names = ("wide@1", "wide@2", "slow@1", "slow@2")
    ranking = read_content(make_run(tmp_path / "run", names=names).folder).ranking
    assert ranking is not None
    wide, slow = (place.cost for place in ranking.places)
    assert (wide.num_tokens, slow.num_tokens) == (300 * STEPS, 700 * STEPS)
    assert wide.seconds == pytest.approx(0.3 * STEPS)  # a tick is a second here
    assert wide.share == pytest.approx(0.3)
    assert wide.num_weights == 512


def test_without_a_comparison_the_eval_figures_rank_and_claim_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", compare=())
    result = json.loads(run.result_file.read_text(encoding="utf-8"))
    result["experiments"]["wide"]["best_metric"] = 2.5
    run.result_file.write_text(json.dumps(result), encoding="utf-8")
    ranking = read_content(run.folder).ranking
    assert ranking is not None
    assert not ranking.is_judged
    assert [place.experiment for place in ranking.places] == ["slow", "wide"]  # eval_loss 1.5 and 2.5
    assert ranking.places[0].from_base is None


def test_forgetting_is_both_losses(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    of_the_comparison = read_content(run.folder).ranking
    assert of_the_comparison is not None
    assert of_the_comparison.places[0].forgotten is not None
    assert of_the_comparison.places[0].forgotten.before == 3.0
    result = json.loads(run.result_file.read_text(encoding="utf-8"))
    result["experiments"]["wide"]["retain_loss"] = 2.25
    run.result_file.write_text(json.dumps(result), encoding="utf-8")
    ranking = read_content(run.folder).ranking
    assert ranking is not None
    assert ranking.places[0].forgotten is not None
    assert (ranking.places[0].forgotten.before, ranking.places[0].forgotten.after) == (2.0, 2.25)
    assert "2.000 → 2.250 +0.250" in Page(render_page(read_content(run.folder))).words


def test_one_experiment_is_not_ranked(tmp_path: Path) -> None:
    assert read_content(make_run(tmp_path / "run", names=("wide",)).folder).ranking is None


def test_which_differences_are_significant_is_counted_and_the_others_are_named(tmp_path: Path) -> None:
    names = ("wide", "wider", "slow", "slower")
    compared = read_content(make_run(tmp_path / "run", names=names).folder).comparison
    assert compared is not None
    assert compared.significance == (
        "Of 6 differences in chrF between experiments, 4 are significant; "
        "not between wide and wider; slow and slower."
    )

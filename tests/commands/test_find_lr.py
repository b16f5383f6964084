"""The range test: eight rates in one pass, and a suggestion that follows from what they did."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom import Recipe
from loraloom.cli.answer_verbs import _predict_command
from loraloom.commands.compare import compare
from loraloom.commands.find_lr import NUM_STEPS, RATES, find_learning_rate, suggest
from loraloom.commands.report import render_report
from loraloom.commands.train import train
from loraloom.console import print_range_test
from loraloom.errors import CheckError, DataError, Interrupted, RunError
from loraloom.recipe.reading import read_recipe
from loraloom.report.content import read_content
from loraloom.run.documents.range_test import FORMAT, RangeTest, RateResult
from loraloom.run.events import Event, TrainStep
from loraloom.run.folder import list_runs


def results(gains: dict[float, float | None]) -> list[RateResult]:
    return [RateResult(rate, None if gain is None else 5 - gain, gain) for rate, gain in gains.items()]


def test_of_rates_that_gain_as_much_the_smallest_is_suggested() -> None:
    rate, reason = suggest(results({1e-4: 0.1, 1e-3: 0.97, 1e-2: 1.0}))
    assert rate == 1e-3
    assert "0.01" in reason


def test_a_rate_that_did_not_stay_finite_is_never_suggested() -> None:
    assert suggest(results({1e-4: 0.1, 1e-3: None}))[0] == 1e-4


def test_where_no_rate_helps_none_is_suggested_and_that_is_said() -> None:
    rate, reason = suggest(results({1e-4: -0.1, 1e-3: None}))
    assert rate is None
    assert reason.startswith("No rate")


@pytest.mark.parametrize(("edge", "word"), [(RATES[0], "smaller"), (RATES[-1], "larger")])
def test_a_suggestion_at_the_edge_says_so(edge: float, word: str) -> None:
    reason = suggest(results({rate: 1.0 if rate == edge else 0.1 for rate in RATES}))[1]
    assert f"a {word} one may be" in reason


def write_rows(folder: Path) -> None:
    rows = [
        {"instruction": f"如何处理{a}{b}", "response": f"先{b}再{a}"} for a in "朋友学校" for b in "压力心情"
    ]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")


def recipe_in(folder: Path, base: Path, held_out: float) -> Recipe:
    recipe = {
        "model_name_or_path": str(base),
        "data": {"train": "rows.json", "eval": held_out},
        "lora": {"r": 4},
    }
    return Recipe.model_validate(recipe).in_folder(folder)


@pytest.fixture
def recipe(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[float], Recipe]:
    write_rows(tmp_path)
    return lambda held_out: recipe_in(tmp_path, tiny("mt5"), held_out)


@pytest.fixture(scope="module")
def rates(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[RangeTest, Recipe]:
    """What a range test found, whose run it names, and its recipe."""
    folder = tmp_path_factory.mktemp("rates")
    write_rows(folder)
    recipe = recipe_in(folder, tiny("mt5"), 4)
    return find_learning_rate(recipe, out=folder / "runs" / "rates"), recipe


def test_a_data_error_ends_it_before_the_base_is_loaded_unless_it_is_allowed(
    recipe: Callable[[float], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = [{"instruction": f"question {n}", "response": "the same"} for n in range(40)]
    (tmp_path / "rows.json").write_text(json.dumps(alike), encoding="utf-8")

    def load(*words: object) -> None:
        raise AssertionError("the base is loaded")

    monkeypatch.setattr("loraloom.commands.find_lr.load_recipe_base", load)
    with pytest.raises(CheckError, match="the same response"):
        find_learning_rate(recipe(4), out=tmp_path / "rates")
    with pytest.raises(AssertionError, match="the base is loaded"):
        find_learning_rate(recipe(4), out=tmp_path / "rates", allowed=["alike"])


def test_larger_rates_gain_more_on_a_model_that_knows_nothing(
    rates: tuple[RangeTest, Recipe],
) -> None:
    found = rates[0]
    assert [result.learning_rate for result in found.results] == list(RATES)
    gains = [result.gain for result in found.results]
    assert all(gain is not None for gain in gains)
    assert gains[0] < gains[3] < max(gains[4:])  # type: ignore[operator, type-var]
    assert found.suggestion in RATES[4:]


def test_without_eval_rows_it_is_refused(recipe: Callable[[float], Recipe], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs eval rows"):
        find_learning_rate(recipe(0), out=tmp_path / "rates")
    assert not (tmp_path / "rates").exists()


def test_what_was_found_is_a_run_that_the_report_shows(
    rates: tuple[RangeTest, Recipe],
) -> None:
    found, run = rates[0], Path(rates[0].run)
    content = read_content(run)
    assert content.is_finished
    assert content.range_test is not None
    assert content.range_test.suggestion == found.suggestion
    assert [each.eval_loss for each in content.range_test.results] == [r.eval_loss for r in found.results]
    assert {len(each.curves.loss) for each in content.experiments} == {NUM_STEPS}
    assert found.reason in render_report(run).replace("&#39;", "'")
    assert not list((run / "adapters").iterdir())
    assert _predict_command(run) == "loraloom train RECIPE"
    with pytest.raises(RunError, match="a range test of the learning rate, which keeps no adapters"):
        compare(run)
    own = read_recipe(run / "recipe.yaml")
    assert [e.training.learning_rate for e in own.resolved_experiments] == list(RATES)


def test_a_run_made_later_from_the_same_recipe_shows_it(rates: tuple[RangeTest, Recipe]) -> None:
    later = Path(rates[0].run).with_name("later")
    train(rates[1].revised({"training": {"max_steps": 1}}), out=later)
    shown = read_content(later).range_test
    assert shown is not None
    assert shown.run == "rates"


def test_a_signal_leaves_nothing(recipe: Callable[[float], Recipe], tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, TrainStep) and (event.step, event.experiment) == (3, f"{RATES[0]:g}"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="run the same command to start again"):
        find_learning_rate(recipe(4), out=tmp_path / "runs" / "rates", report=stop)
    assert list_runs(tmp_path / "runs") == []
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_terminal_shows_a_bar_for_what_was_gained(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = (RateResult(1e-4, 4.5, 0.5), RateResult(1e-3, 3.0, 2.0), RateResult(1e-2, 5.5, -0.5))
    found = RangeTest(
        run="runs/x",
        format=FORMAT,
        experiment="main",
        num_steps=30,
        num_eval_rows=8,
        base_eval_loss=5.0,
        results=[*outcomes, RateResult(3e-2, None, None)],
        suggestion=1e-3,
        reason="Why.",
    )
    print_range_test(found)
    lines = capsys.readouterr().out.splitlines()
    bars = {line.split()[0]: line.count("█") for line in lines[1:5]}
    assert abs(bars["0.001"] - 4 * bars["0.0001"]) <= 2 < bars["0.001"]
    assert bars["0.01"] == bars["0.03"] == 0
    assert "+0.5000" in lines[3]
    assert "not finite" in lines[4]
    assert lines[-2:] == ["Why.", "--set training.learning_rate=0.001"]

"""A run feeds its trackers from its events, and none of them can stop, slow or change a training."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.check import check
from loraloom.errors import RecipeError
from loraloom.run.events import Evaluation, ExperimentEnd, Note, TrainStep
from loraloom.run.folder import Run
from loraloom.trackers import feed, process
from loraloom.trackers.tracker_figures import figures_of
from tests.trackers.tracked import adapters_of, tracked_recipe, train_tracked, warnings_in


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[dict[str, Any]]]:
    """Installs a local package `trackio`; `written("log")` is what it got."""
    packages = tmp_path / "packages"
    packages.mkdir()
    shutil.copy(Path(__file__).with_name("fake_trackio.py"), packages / "trackio.py")
    path = tmp_path / "got.jsonl"
    path.touch()
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setenv("PYTHONPATH", f"{packages}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("FAKE_TRACKER_FILE", str(path))

    def get(what: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [values for name, values in lines if name == what]

    return get


@pytest.fixture(scope="module")
def untracked(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The adapters of the same training without trackers."""
    folder = tmp_path_factory.mktemp("untracked")
    train_tracked(tracked_recipe(folder, tiny("mt5"), []), folder / "run")
    assert not (folder / "run" / "trackers").exists()
    return adapters_of(folder / "run")


def test_a_resumed_run_continues_in_the_same_runs_of_its_tracker(
    tiny: Callable[[str], Path],
    tmp_path: Path,
    written: Callable[[str], list[dict[str, Any]]],
    untracked: Any,
) -> None:
    recipe, out = tracked_recipe(tmp_path, tiny("mt5"), ["trackio"]), tmp_path / "first"
    assert warnings_in(train_tracked(recipe, out, stop_after=2)) == []
    assert [entry["step"] for entry in written("log") if entry["name"] == "first/wide"] == [1, 2]
    assert warnings_in(train_tracked(recipe, out, resume=True)) == []

    opened = written("init")
    assert [(each["name"], each["group"], each["resume"]) for each in opened] == [
        ("first/wide", "first", "never"),
        ("first/slow", "first", "never"),
        ("first/wide", "first", "allow"),
        ("first/slow", "first", "allow"),
    ]
    settings = opened[1]["config"]
    assert (settings["lora.target_modules"], settings["seed"], settings["training.learning_rate"]) == (
        "q, v",
        1,
        0.02,
    )
    assert str(tmp_path) not in json.dumps(opened)  # data files and folders stay private
    assert [each["name"] for each in written("finish")] == ["first/wide", "first/slow"] * 2
    runs = json.loads((out / "trackers" / "runs.json").read_text())["runs"]
    assert runs == {"trackio": {"wide": "first/wide", "slow": "first/slow"}}
    own = [entry for entry in written("log") if entry["name"] == "first/wide"]
    steps = [
        event for event in Run(out).events() if isinstance(event, TrainStep) and event.experiment == "wide"
    ]
    assert [entry["train/loss"] for entry in own if "train/loss" in entry] == [event.loss for event in steps]
    assert sum("eval/loss" in entry for entry in own) == 2
    assert own[-1]["best/step"] == 6
    assert "{this is no answer}" in (out / "trackers" / "trackio.log").read_text()
    assert adapters_of(out) == untracked


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("raises", "OSError: database is locked."),
        ("dies", "its process ended with code 7: Fatal: no more."),
        ("hangs", "it had not written everything when the training ended, and was stopped."),
    ],
)
def test_a_tracker_that_fails_is_one_warning_and_changes_nothing(
    fault: str,
    problem: str,
    tiny: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: Callable[[str], list[dict[str, Any]]],
    untracked: dict[str, bytes],
) -> None:
    monkeypatch.setenv("FAKE_TRACKER", fault)
    monkeypatch.setattr(feed, "SECONDS_AT_THE_END", 4.0)
    recipe, out = tracked_recipe(tmp_path, tiny("mt5"), ["trackio"]), tmp_path / "run"
    started = time.monotonic()
    events = train_tracked(recipe, out)
    assert time.monotonic() - started < 60
    (warning,) = warnings_in(events)
    assert warning.startswith(f"trackio does not show all of this run: {problem} Training is not affected")
    waits = [event for event in events if isinstance(event, Note) and "waiting for trackio" in event.message]
    assert len(waits) == 1 if fault == "hangs" else len(waits) <= 1
    assert adapters_of(out) == untracked
    assert sum(isinstance(event, TrainStep) for event in Run(out).events()) == 12
    assert written("log") == []


def test_a_full_queue_drops_events_and_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MAX_WAITING", 3)
    feeding = process.TrackerProcess("tensorboard", start_in(tmp_path), tmp_path / "log")
    started = time.monotonic()
    for _ in range(1000):
        feeding.send(LONG_END)
    assert time.monotonic() - started < 5
    feeding.kill()
    assert feeding._num_missed > 900


def test_a_child_that_a_dead_tracker_leaves_behind_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: Callable[[str], list[dict[str, Any]]]
) -> None:
    monkeypatch.setenv("FAKE_TRACKER", "leaves a child")
    feeding = process.TrackerProcess("trackio", start_in(tmp_path), tmp_path / "log")
    for _ in range(5):
        feeding.send(LONG_END)
    feeding._process.wait(60)
    started = time.monotonic()
    feeding.end("done", started + 5)
    assert "Fatal: no more" in feeding.wait(started + 5)
    feeding.kill()
    assert time.monotonic() - started < 10


LONG_END = ExperimentEnd(
    step=1,
    experiment="a",
    experiment_step=1,
    status="done",
    reason="x" * 200_000,  # more than a pipe holds
    best_step=1,
    best_metric=None,
    forgetting=None,
)


def start_in(folder: Path) -> dict[str, Any]:
    return {"group": "g", "folder": str(folder), "settings": {}, "ids": {}}


def test_a_tracker_that_is_not_installed_is_refused_with_its_install_line(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "is_installed", lambda name: name == "trackio")
    recipe = tracked_recipe(tmp_path, tiny("mt5"), ["trackio", "wandb", "swanlab"])
    for command in (lambda: train_tracked(recipe, tmp_path / "run"), lambda: check(recipe)):
        with pytest.raises(RecipeError) as refused:
            command()
        assert [str(problem) for problem in refused.value.problems] == [
            f"training.report_to: the tracker {name} is not installed. "
            f"Install it: pip install 'loraloom[{name}]'. Or write report_to: none."
            for name in ("wandb", "swanlab")
        ]
    assert not (tmp_path / "run").exists()


def test_a_run_may_be_resumed_with_other_trackers(
    tiny: Callable[[str], Path], tmp_path: Path, written: Callable[[str], list[dict[str, Any]]]
) -> None:
    folder, base = tmp_path, tiny("mt5")
    train_tracked(tracked_recipe(folder, base, []), tmp_path / "run", stop_after=5)
    events = train_tracked(tracked_recipe(folder, base, ["trackio"]), tmp_path / "run", resume=True)
    assert sum(isinstance(event, TrainStep) for event in events) == 2
    assert len(written("finish")) == 2


def test_the_figures_of_each_event_have_the_names_of_transformers() -> None:
    step = TrainStep(
        step=9,
        experiment="a",
        experiment_step=4,
        total_steps=8,
        epoch=0.5,
        loss=2.0,
        learning_rate=1e-3,
        grad_norm=3.0,
        num_tokens=7,
        tokens_per_second=70.0,
    )
    found = figures_of(step)
    assert found is not None
    assert (found.experiment, found.step) == ("a", 4)
    assert found.values["train/loss"] == 2.0
    evaluation = Evaluation(
        step=9, experiment="a", experiment_step=4, epoch=0.5, figures={"eval_loss": 1.5, "chrf": 30.0}
    )
    evaluated = figures_of(evaluation)
    assert evaluated is not None
    assert evaluated.values == {"eval/loss": 1.5, "eval/chrf": 30.0}

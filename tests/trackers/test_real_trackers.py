"""The real packages, offline: a stopped and resumed training is one run a tracker and experiment.

`make trackers` installs them; each test is skipped without its package.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loraloom.recipe.tracker_names import TRACKERS
from loraloom.trackers.tracker_kinds import is_installed
from tests.trackers.tracked import tracked_recipe, train_tracked, warnings_in

EXPERIMENTS = ("wide", "slow")
OFFLINE = {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "MLFLOW_TRACKING_URI": ""}


@pytest.fixture(scope="module")
def run(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that was stopped after two steps and resumed, with all trackers that are installed."""
    installed = [name for name in TRACKERS if is_installed(name)]
    if not installed:
        pytest.skip("no tracker is installed")
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        for limit in ("SECONDS_AFTER_A_STOP", "SECONDS_AT_THE_END"):  # all start at once, on a busy machine
            patch.setattr(f"loraloom.trackers.feed.{limit}", 300.0)
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        recipe = tracked_recipe(folder, tiny("mt5"), installed, EXPERIMENTS)
        assert warnings_in(train_tracked(recipe, folder / "run", stop_after=2)) == []
        assert warnings_in(train_tracked(recipe, folder / "run", resume=True)) == []
        yield folder / "run"


def ids(run: Path, tracker: str) -> dict[str, str]:
    found = json.loads((run / "trackers" / "runs.json").read_text())["runs"][tracker]
    assert list(found) == list(EXPERIMENTS)
    return dict(found)


def losses(run: Path, experiment: str) -> dict[int, float]:
    """Step → loss, as the run keeps it."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {
        line["experiment_step"]: line["loss"]
        for line in lines
        if line["event"] == "train" and line["experiment"] == experiment
    }


def in_a_process(code: str, *words: str) -> Any:
    """What a program prints as JSON; a package's own warnings and settings stay out of the tests."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_trackio(run: Path) -> None:
    pytest.importorskip("trackio")
    code = """if True:
        import json
        from trackio.sqlite_storage import SQLiteStorage as storage
        names = [record["name"] for record in storage.get_run_records("loraloom")]
        print(json.dumps({name: storage.get_logs("loraloom", name) for name in names}, default=str))"""
    found = in_a_process(code)
    assert list(found) == list(ids(run, "trackio").values()) == ["run/wide", "run/slow"]
    for experiment in EXPERIMENTS:
        points = [line for line in found[f"run/{experiment}"] if "train/loss" in line]
        assert {line["step"]: line["train/loss"] for line in points} == losses(run, experiment)


def test_tensorboard(run: Path) -> None:
    pytest.importorskip("tensorboard")
    code = """if True:
        import json, sys
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        read = EventAccumulator(sys.argv[1])
        read.Reload()
        print(json.dumps([[s.step, s.value] for s in read.Scalars("train/loss")]))"""
    for experiment, name in ids(run, "tensorboard").items():
        points = in_a_process(code, str(run / "trackers" / "tensorboard" / name))
        assert len(points) == len(losses(run, experiment))
        assert {step: pytest.approx(value) for step, value in points} == losses(run, experiment)


def test_wandb(run: Path) -> None:
    pytest.importorskip("wandb")
    for id in ids(run, "wandb").values():
        files = list((run / "trackers" / "wandb").glob(f"offline-run-*/run-{id}.wandb"))
        assert len(files) == 2, "one folder each time, of the same run"
        content = b"".join(path.read_bytes() for path in files)
        assert b"train/loss" in content
        assert content.count(b"lora.target_modules") >= 2
    assert not list((run / "trackers" / "wandb").glob("run-*")), "nothing is meant for the network"


def test_mlflow(run: Path) -> None:
    pytest.importorskip("mlflow")
    with sqlite3.connect(run.parent / "mlflow.db") as database:
        for experiment, id in ids(run, "mlflow").items():
            row = database.execute("select name, status from runs where run_uuid = ?", [id]).fetchone()
            assert row == (f"run/{experiment}", "FINISHED")
            points = database.execute(
                "select step, value from metrics where run_uuid = ? and key = 'train/loss'", [id]
            )
            assert dict(points.fetchall()) == losses(run, experiment)
        assert database.execute("select count(*) from runs").fetchone() == (2,)
    database.close()


def test_swanlab(run: Path) -> None:
    pytest.importorskip("swanlab")
    for id in ids(run, "swanlab").values():
        files = list((run / "trackers" / "swanlab").glob(f"run-*-{id}/run-{id}.swanlab"))
        assert len(files) == 2, "one folder each time, of the same run"
        assert all(b"train/loss" in path.read_bytes() for path in files)


def test_a_locked_database_of_trackio_stops_nothing(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    recipe = tracked_recipe(tmp_path, tiny("mt5"), ["trackio"])
    train_tracked(recipe, tmp_path / "first")
    (path,) = (tmp_path / "trackio").rglob("*.db")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("begin exclusive")
    try:
        monkeypatch.setattr("loraloom.trackers.feed.SECONDS_AT_THE_END", 5.0)
        events = train_tracked(recipe, tmp_path / "second")
    finally:
        holder.close()
    assert (tmp_path / "second" / "result.json").is_file()
    (warning,) = warnings_in(events)
    assert "trackio does not show all of this run" in warning

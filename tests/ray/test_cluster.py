"""A search and a training on a cluster come to what they come to here, whoever is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from loraloom.commands.search import search
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.recipe.reading import read_recipe
from loraloom.run.events import Event, Note, TrainStep, WarningNote
from loraloom.run.folder import Run
from loraloom.workers.ray_options import RayOptions
from tests.search.small import fruits, request_of
from tests.search.test_interruptions import assert_same, raw_events

pytest.importorskip("ray")

SearchView = Callable[..., Path]
ONE_CPU = RayOptions(num_cpus=1)
PATIENCE = 60.0


class Listening:
    """What a command says, and something to do at an event."""

    def __init__(self, act: Callable[[Event], bool] | None = None) -> None:
        self.said: list[str] = []
        self.act = act

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note | WarningNote):
            self.said.append(str(event.message))
        if self.act is not None and self.act(event):
            self.act = None

    def workers(self) -> list[int]:
        """The processes that have taken part."""
        found = (re.search(r"process (\d+) takes part", text) for text in self.said)
        return [int(match[1]) for match in found if match]


def test_a_search_on_two_nodes_comes_to_what_it_comes_to_here(
    connected: Any, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    heard = Listening()
    search(request_of(recipe), out=tmp_path / "run", ray=ONE_CPU, report=heard)
    assert len(set(heard.workers())) == 2
    assert_same(tmp_path / "run", searched(), set())
    assert not (tmp_path / "run" / "lanes").exists()


def test_a_worker_that_is_killed_loses_no_trial_and_none_is_counted_twice(
    connected: Any, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    def kill(event: Event) -> bool:
        is_time = isinstance(event, TrainStep) and event.experiment_step == 4
        if is_time:
            os.kill(heard.workers()[0], signal.SIGKILL)
        return is_time

    heard = Listening(kill)
    search(request_of(recipe), out=tmp_path / "run", ray=ONE_CPU, report=heard)
    assert any("no longer takes part" in text for text in heard.said)
    assert_same(tmp_path / "run", searched(), set())
    ends = [event["experiment"] for event in raw_events(tmp_path / "run") if event["event"] == "end"]
    assert sorted(ends) == sorted(fruits(tmp_path / "run").trials)


def test_a_search_that_is_stopped_goes_on_without_ray(
    connected: Any, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    from loraloom.errors import Interrupted
    from loraloom.training.signals import StopRequest

    stop = StopRequest()

    def halt(event: Event) -> bool:
        if isinstance(event, TrainStep) and event.experiment_step == 3:
            stop.stop()
        return stop.is_set

    heard = Listening(halt)
    with pytest.raises(Interrupted):
        search(request_of(recipe), out=tmp_path / "run", ray=ONE_CPU, report=heard, stop=stop)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_training, heard.workers())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_training, heard.workers()))
    search(request_of(recipe), resume=tmp_path / "run")
    assert_same(tmp_path / "run", searched(), set())


def is_training(pid: int) -> bool:
    """Whether a process is still the worker that it was."""
    try:
        return "WaveActor" in " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False


def test_base_and_data_travel_to_workers_that_do_not_see_them(
    connected: Any, searched: SearchView, recipe: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(recipe.parent / "rows.json", own)
    shutil.copytree(tiny("mt5"), own / "model")
    document = json.loads(recipe.read_text()) | {"model_name_or_path": "model"}
    (own / "recipe.yaml").write_text(json.dumps(document))

    def hide(event: Event) -> bool:  # when it is under way, nothing is at its path any more
        is_time = isinstance(event, Note) and "takes part" in str(event.message)
        if is_time:
            own.rename(tmp_path / "elsewhere")
        return is_time

    heard = Listening(hide)
    options = RayOptions(num_cpus=1, sends_files=True)
    search(request_of(own / "recipe.yaml"), out=tmp_path / "run", ray=options, report=heard)
    assert heard.workers()
    ours, theirs = fruits(tmp_path / "run"), fruits(searched())
    assert (ours.trials, ours.best) == (theirs.trials, theirs.best)
    # What they were sent is not left on their machines.
    of_workers = Path(tempfile.gettempdir()).glob("loraloom-*/files/run/provenance.json")
    assert [file for file in of_workers if str(tmp_path) in file.read_text(encoding="utf-8")] == []


def test_an_adapter_that_an_experiment_starts_from_travels_too(
    connected: Any, training: Path, tmp_path: Path
) -> None:
    first = train(read_recipe(training, ["experiments="]), out=tmp_path / "first").run
    own = tmp_path / "own"
    shutil.copytree(training.parent, own)
    shutil.copytree(first.adapters / "main", own / "start")
    document = json.loads(training.read_text())
    document["experiments"] = {"fresh": {}, "on": {"lora": {"init_adapter": "start"}}}
    (own / "recipe.yaml").write_text(json.dumps(document))

    def hide(event: Event) -> bool:
        is_time = isinstance(event, Note) and "takes part" in str(event.message)
        if is_time:
            own.rename(tmp_path / "elsewhere")
        return is_time

    options = RayOptions(num_cpus=1, sends_files=True)
    heard, recipe = Listening(hide), read_recipe(own / "recipe.yaml")
    found = train(recipe, out=tmp_path / "run", ray=options, report=heard)
    assert heard.workers()
    (tmp_path / "elsewhere").rename(own)
    here = train(recipe, out=tmp_path / "here")
    ours, theirs = (each.result.experiments for each in (found, here))
    for name in ("fresh", "on"):
        assert ours[name].best_metric == pytest.approx(theirs[name].best_metric, rel=1e-4)
    assert ours["on"].best_metric != pytest.approx(ours["fresh"].best_metric, rel=1e-4)


def test_a_node_that_cannot_take_part_is_named_and_the_search_ends_with_all_reasons(
    connected: Any, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loraloom.errors import TrainingError

    # The driver's record of its own versions, which workers compare with theirs.
    monkeypatch.setattr("loraloom.session.provenance.PACKAGES", ("loraloom", "torch", "tokenizers"))
    heard = Listening()
    with pytest.raises(TrainingError, match="a different version in the process that writes the run"):
        search(request_of(recipe), out=tmp_path / "run", ray=ONE_CPU, report=heard)
    assert sum("cannot take part" in text for text in heard.said) == 2


def test_experiments_of_a_recipe_are_spread_and_the_run_is_as_any(
    connected: Any, training: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(training)
    heard = Listening()
    train(recipe, out=tmp_path / "spread", ray=ONE_CPU, report=heard)
    train(recipe, out=tmp_path / "here")
    assert len(set(heard.workers())) == 2
    ours, theirs = (
        Run(tmp_path / name).read_json(tmp_path / name / "result.json") for name in ("spread", "here")
    )
    for name, entry in theirs["experiments"].items():
        assert ours["experiments"][name]["status"] == entry["status"] == "done"
        assert ours["experiments"][name]["best_metric"] == pytest.approx(entry["best_metric"], rel=1e-4)
    assert {p.name for p in (tmp_path / "spread" / "adapters").iterdir()} == {"e1", "e2", "e3", "e4"}
    before = (tmp_path / "spread" / "result.json").read_bytes()
    train(recipe, resume=tmp_path / "spread")  # finished and intact
    assert (tmp_path / "spread" / "result.json").read_bytes() == before


def test_an_address_that_does_not_answer_is_said(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no Ray cluster answers"):
        search(request_of(recipe), out=tmp_path / "run", ray=RayOptions("127.0.0.1:1"))

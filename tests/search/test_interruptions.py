"""Nothing that ends a search early loses a trial or trains one twice; a database in the way stops nothing."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.errors import RunError
from loraloom.run.events import Event, TrainStep
from loraloom.run.folder import Run
from tests.events import message_of
from tests.faults.warm import Warm
from tests.search.small import SPACE, fruits, run_search, study_of

SearchView = Callable[..., Path]
STEP = "torch.optim.adamw:AdamW.step"


class Killed(BaseException):
    """As SIGKILL, as far as one process can play it."""


def raw_events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def ended(run: Path) -> set[str]:
    file = run / "search.json"
    trials = json.loads(file.read_text())["trials"] if file.exists() else []
    return {trial["name"] for trial in trials if trial["status"] != "training"}


def assert_same(run: Path, expected: Path, ended_before: set[str]) -> None:
    """The same trials with the same ends, and none that had ended took another step."""
    ours, theirs = fruits(run), fruits(expected)
    assert ours.trials == theirs.trials
    assert ours.figures == pytest.approx(theirs.figures, rel=1e-4)
    assert (ours.best, ours.adapters, ours.states) == (theirs.best, theirs.adapters, theirs.states)
    events = raw_events(run)
    resumes = [number for number, event in enumerate(events) if event["event"] == "resume"]
    later = events[resumes[-1] :] if resumes else []
    assert not ended_before & {event["experiment"] for event in later if event["event"] == "train"}


# Where a process may die: before a draw is known, between ledger and study, in a save, in an export, …
DEATHS = (
    ("loraloom.search.study:Study.draw", 3),
    ("loraloom.search.ledger:Ledger.save", 2),
    ("loraloom.search.study:Study.follow", 4),
    ("loraloom.training.loop:_update_all", 2),
    ("loraloom.training.loop:save_checkpoint", 1),
    ("loraloom.training.loop:_detach", 1),
    ("loraloom.training.exporting:write_adapter", 1),
    ("loraloom.search.driver:SearchDriver._prune", 2),
    ("loraloom.search.driver:SearchDriver._halve", 4),
    ("loraloom.commands.search:best_recipe", 1),
)


@pytest.mark.parametrize(("where", "number"), DEATHS)
def test_wherever_it_dies_it_goes_on(
    where: str, number: int, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    search_until(where, number, recipe, run, halving=True)
    before = ended(run)
    run_search(recipe, run, halving=True, resume=True)
    assert_same(run, searched(halving=True), before)


def search_until(where: str, number: int, recipe: Path, run: Path, **options: Any) -> None:
    """Begin a search that dies in the call of this number (from 1) of a function."""
    module, _, path = where.partition(":")
    owner, name = importlib.import_module(module), path
    if "." in path:
        owner, name = getattr(owner, path.partition(".")[0]), path.partition(".")[2]
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise Killed
        return original(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises(Killed):
            run_search(recipe, run, **options)


@pytest.mark.parametrize("number", [5, 17])
def test_a_real_kill_loses_and_repeats_nothing(
    number: int, warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run, argv = tmp_path / "run", command(recipe, tmp_path)
    killed = warm.call(*argv, "--out", run, cwd=tmp_path, faults={"call": STEP, "number": number})
    assert killed.code == -9
    before = ended(run)
    resumed = warm.call(*argv, "--resume", run, "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["best"] == fruits(searched(halving=True)).best
    assert_same(run, searched(halving=True), before)


def test_a_signal_is_heard_and_the_way_on_is_said(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run, argv = tmp_path / "run", command(recipe, tmp_path)
    faults = {"call": STEP, "number": 9, "reached": str(tmp_path / "reached"), "go": str(tmp_path / "go")}
    started = warm.start(*argv, "--out", run, cwd=tmp_path, faults=faults)
    started.until((tmp_path / "reached").exists)
    os.kill(started.pid, signal.SIGTERM)
    (tmp_path / "go").touch()
    stopped = started.wait()
    assert stopped.code == 143
    assert f"run the same command with --resume {run} instead of --out" in stopped.stderr
    before = ended(run)
    resumed = warm.call(*argv, "--resume", run, cwd=tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert "trial-0000" in resumed.stdout
    assert f"Next: loraloom compare {run} --experiment" in resumed.stderr
    assert_same(run, searched(halving=True), before)


def command(recipe: Path, folder: Path) -> list[str | Path]:
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    options = ("--sampler", "random", "--trials", "6", "--halving")
    return ["search", recipe, "--space", folder / "space.yaml", *options]


def test_a_wrong_space_is_said_without_a_traceback(warm: Warm, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("rnk: [1]", encoding="utf-8")
    argv = ["search", recipe, "--space", tmp_path / "space.yaml", "--trials", "2"]
    refused = warm.call(*argv, cwd=tmp_path)
    assert (refused.code, refused.stdout) == (1, "")
    assert "space.yaml:1: unknown key `rnk`" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with a database."""
    monkeypatch.setattr("loraloom.search.study.DELAYS", (0.01, 0.02))
    monkeypatch.setattr("loraloom.search.study.LOCK_SECONDS", 0.05)


class Locker:
    """Another program that holds the database from a training step on.

    Args:
        until_noticed: let go at the first sign that somebody waits.
    """

    def __init__(self, run: Path, *, until_noticed: bool) -> None:
        self.run, self.until_noticed = run, until_noticed
        self.connection: sqlite3.Connection | None = None
        self.waits: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 3 and self.connection is None:
            self.connection = sqlite3.connect(self.run / "study.db", isolation_level=None)
            self.connection.execute("BEGIN EXCLUSIVE")
        if "trying again" in message_of(event):
            self.waits.append(message_of(event))
            if self.until_noticed:
                self.let_go()

    def let_go(self) -> None:
        assert self.connection is not None
        self.connection.rollback()
        self.connection.close()


@pytest.mark.usefixtures("hasty")
def test_a_short_lock_is_waited_for(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    locker = Locker(tmp_path / "run", until_noticed=True)
    run_search(recipe, tmp_path / "run", report=locker)
    assert locker.waits == ["study.db: database is locked; trying again in 0.01 s"]
    assert fruits(tmp_path / "run") == fruits(searched())


@pytest.mark.usefixtures("hasty")
def test_a_lock_that_stays_is_said_and_costs_nothing(
    searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    locker = Locker(run, until_noticed=False)
    with pytest.raises(RunError) as caught:
        run_search(recipe, run, report=locker)
    assert len(locker.waits) == 2
    for words in (
        "stays locked by another program",
        "database is locked",
        "Everything trained is kept",
        "--resume",
    ):
        assert words in str(caught.value)
    kept = ended(run)
    assert kept == {f"trial-000{number}" for number in range(6)}
    assert {path.name for path in Run(run).adapters.iterdir()} == kept
    locker.let_go()
    run_search(recipe, run, resume=True)
    assert_same(run, searched(), kept)


def test_a_database_that_vanishes_is_made_anew(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"

    def report(event: Event) -> None:
        if isinstance(event, TrainStep) and (event.step, event.experiment) == (3, "trial-0000"):
            (run / "study.db").unlink()

    run_search(recipe, run, report=report)
    assert fruits(run) == fruits(searched())


@pytest.mark.usefixtures("hasty")
def test_a_database_that_is_none_is_said(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    search_until("loraloom.training.loop:save_checkpoint", 1, recipe, run)
    (run / "study.db").write_bytes(b"no database at all " * 400)
    with pytest.raises(RunError, match=r"cannot be used .*file is not a database.*Remove study\.db"):
        run_search(recipe, run, resume=True)
    (run / "study.db").unlink()
    run_search(recipe, run, resume=True)
    assert_same(run, searched(), set())


def test_a_study_of_other_trials_is_refused(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    search_until("loraloom.training.loop:save_checkpoint", 1, recipe, run)
    document = json.loads((run / "search.json").read_text())
    document["trials"][0]["parameters"]["training.learning_rate"] = 0.0042
    (run / "search.json").write_text(json.dumps(document))
    (run / ".sums.json").unlink()  # or search.json itself would be refused
    with pytest.raises(RunError, match=r"contains trials that differ from those in search\.json"):
        run_search(recipe, run, resume=True)
    assert len(study_of(run).trials) == 6

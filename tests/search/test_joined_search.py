"""Several processes take part in one search: each trial is trained once, wherever, and one process writes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.run.folder import Run
from loraloom.workers.beats import machine
from loraloom.workers.journal import is_ready
from loraloom.workers.ray_options import RayOptions
from loraloom.workers.sources import note_for_joiners, refusal_to_join
from tests.faults.warm import Started, Warm
from tests.search.small import fruits, run_search
from tests.search.test_interruptions import STEP, assert_same, command, ended, raw_events

SearchView = Callable[..., Path]
UNLOCK = "optuna.storages.journal:JournalFileOpenLock.release"
# The updates of six trials: those of the timed step, and of the first one.
IN_TRAINING = 14


def plain(recipe: Path, folder: Path) -> list[str | Path]:
    """A search of six trials whose outcome does not depend on who ends first."""
    return [word for word in command(recipe, folder) if word != "--halving"]


def gate(folder: Path, name: str) -> dict[str, object]:
    """A process comes here, and goes on when it may."""
    return {"reached": str(folder / f"reached{name}"), "go": str(folder / f"go{name}"), "seconds": 60.0}


def held(warm: Warm, recipe: Path, folder: Path, number: int, *more: str) -> Started:
    """A search that waits in its step of this number until `go` is there."""
    faults = {"call": STEP, "number": number, **gate(folder, "")}
    started = warm.start(*plain(recipe, folder), *more, "--out", folder / "run", cwd=folder, faults=faults)
    started.until((folder / "reached").exists)
    return started


def joined(warm: Warm, folder: Path, **how: object) -> Started:
    """A process that takes part, and has the base."""
    before = set(folder.glob("run/workers/*"))
    started = warm.start("search", "--join", folder / "run", "--json", cwd=folder, **how)
    started.until(lambda: any(map(is_ready, set(folder.glob("run/workers/*")) - before)))
    return started


def test_a_process_that_joins_trains_a_part_of_the_trials(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING)
    joiner = joined(warm, tmp_path)
    (tmp_path / "go").touch()
    found, taken = holder.wait(), joiner.wait()
    assert (found.code, taken.code) == (0, 0), (found.stderr, taken.stderr)
    assert json.loads(taken.stdout)["waves"] > 0
    assert_same(tmp_path / "run", searched(), set())
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert not names & {"workers", "lanes"}


@pytest.mark.parametrize(
    "faults",
    [
        {"call": STEP, "number": 4},
        # With the lock of its journal: as it takes a wave, and as it first tells a state.
        {"call": UNLOCK, "number": 3},
        {"call": UNLOCK, "number": 4},
    ],
    ids=["in a step", "with a wave taken", "with a state half told"],
)
def test_a_worker_that_is_killed_loses_no_trial_and_none_is_counted_twice(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path, faults: dict[str, object]
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING)
    joiner = joined(warm, tmp_path, faults=faults)
    (tmp_path / "go").touch()
    assert joiner.wait().code == -signal.SIGKILL
    found = holder.wait()
    assert found.code == 0, found.stderr
    assert "no longer takes part: the worker's process has ended" in found.stderr
    assert_same(tmp_path / "run", searched(), set())
    ends = [event["experiment"] for event in raw_events(tmp_path / "run") if event["event"] == "end"]
    assert sorted(ends) == sorted(fruits(tmp_path / "run").trials)


def test_a_driver_that_is_killed_is_noticed_and_its_search_resumes(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run, holder = tmp_path / "run", held(warm, recipe, tmp_path, IN_TRAINING)
    joiner = joined(warm, tmp_path, faults={"call": STEP, "number": 3, **gate(tmp_path, "2")})
    (tmp_path / "go").touch()
    joiner.until((tmp_path / "reached2").exists)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    (tmp_path / "go2").touch()
    left = joiner.wait()
    assert left.code == 1
    assert "has ended, or does not answer" in left.stderr
    assert "Traceback" not in left.stderr
    before = ended(run)
    left_by_an_earlier_version = run / "workers" / f"node-{holder.pid}-0"
    left_by_an_earlier_version.mkdir(parents=True)
    sign = {"machine": machine(), "pid": holder.pid, "started": 1.0, "time": 1.0}
    (left_by_an_earlier_version / "worker.beat").write_text(json.dumps(sign))
    (left_by_an_earlier_version / "ready.json").write_text("{}")
    resumed = warm.call(*plain(recipe, tmp_path), "--resume", run, cwd=tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert_same(run, searched(), before)
    assert not (run / "lanes").exists()
    assert not (run / "workers").exists()


def test_a_signal_to_a_worker_gives_its_trials_back(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING)
    joiner = joined(warm, tmp_path, faults={"call": STEP, "number": 3, **gate(tmp_path, "2")})
    (tmp_path / "go").touch()
    joiner.until((tmp_path / "reached2").exists)
    os.kill(joiner.pid, signal.SIGTERM)
    (tmp_path / "go2").touch()
    left, found = joiner.wait(), holder.wait()
    assert (left.code, found.code) == (143, 0), (left.stderr, found.stderr)
    assert_same(tmp_path / "run", searched(), set())


def test_a_worker_with_another_base_is_named_and_not_used(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING)
    refused = warm.call("search", "--join", tmp_path / "run", "--base", tiny("t5"), cwd=tmp_path)
    assert refused.code == 1
    assert "the run was trained on another base model" in refused.stderr
    (tmp_path / "go").touch()
    found = holder.wait()
    assert found.code == 0
    assert "cannot take part: model_name_or_path: the run was trained on another" in found.stderr
    assert_same(tmp_path / "run", searched(), set())


def test_what_cannot_be_joined_is_said(warm: Warm, searched: SearchView, tmp_path: Path) -> None:
    finished = warm.call("search", "--join", searched(), cwd=tmp_path)
    assert (finished.code, finished.stdout) == (1, "")
    assert "has finished, so nobody can join it" in finished.stderr
    missing = warm.call("search", "--join", tmp_path / "none", cwd=tmp_path, LORALOOM_JOIN_TIMEOUT="0")
    assert (missing.code, missing.stdout) == (1, "")
    assert "there is no such run" in missing.stderr
    refused = (
        ("--trials", "3"),
        ("--set", "device=cpu"),
        ("--sampler", "random"),
        ("--halving",),
        ("--send-files",),
    )
    for option in refused:
        both = warm.call("search", "--join", tmp_path, *option, cwd=tmp_path)
        assert both.code == 2
        assert f"--join cannot be combined with {option[0]}" in both.stderr
    assert not any(Run(tmp_path).folder.iterdir())


def test_a_training_and_a_search_on_ray_are_said_to_be_none_that_can_be_joined(
    warm: Warm, recipe: Path, tmp_path: Path
) -> None:
    """At once: whoever waits for a run that will never be one that can be joined, waits in vain."""
    faults = {"call": STEP, "number": 1, **gate(tmp_path, "")}
    holder = warm.start("train", recipe, "--out", tmp_path / "run", cwd=tmp_path, faults=faults)
    holder.until((tmp_path / "reached").exists)
    join: list[str | Path] = ["search", "--join", tmp_path / "run"]
    refused = warm.call(*join, cwd=tmp_path, LORALOOM_JOIN_TIMEOUT="600")
    (tmp_path / "go").touch()
    assert holder.wait().code == 0
    assert refused.code == 1
    assert "is a training run in a single process, which no other process can join" in refused.stderr
    assert "a training run of several experiments with `devices`" in refused.stderr
    assert not (tmp_path / "run" / "workers").exists()


def test_processes_that_slurm_or_mpi_started_search_and_join_but_train_nothing_each_for_itself(
    warm: Warm, recipe: Path, tmp_path: Path
) -> None:
    """docs/cluster/slurm-join.sbatch starts all of them with one srun, whose PMI says how many they are."""
    env = {"PMI_SIZE": "8", "OMPI_COMM_WORLD_SIZE": "8"}
    holder = warm.start(*plain(recipe, tmp_path), "--out", tmp_path / "run", cwd=tmp_path, **env)
    joined = warm.call("search", "--join", tmp_path / "run", cwd=tmp_path, **env)
    assert (joined.code, joined.stderr.count("takes part in")) == (0, 1), joined.stderr
    assert holder.wait().code == 0
    refused = warm.call("train", recipe, "--out", tmp_path / "trained", cwd=tmp_path, **env)
    assert refused.code == 1
    assert "8 processes were started" in refused.stderr
    assert not (tmp_path / "trained").exists()


def test_a_search_on_ray_is_refused_while_it_is_worked_on_and_not_when_it_is_resumed_without(
    recipe: Path, tmp_path: Path
) -> None:
    run = run_search(recipe, tmp_path / "run", num_trials=1).run
    assert refusal_to_join(run) is None
    with run.locked(note_for_joiners(RayOptions())):
        refusal = refusal_to_join(run)
    assert refusal is not None
    assert "is trained on a Ray cluster" in str(refusal)
    assert "a search without --ray" in str(refusal)
    assert refusal_to_join(run) is None  # the lock file still has the note, but nobody has the lock
    with run.locked(note_for_joiners(None)):
        assert refusal_to_join(run) is None


def test_a_search_resumed_without_ray_is_joined_while_it_still_reads_its_rows(
    warm: Warm, recipe: Path, tmp_path: Path
) -> None:
    """The process before noted that it is on Ray, and was killed."""
    run = run_search(recipe, tmp_path / "run", num_trials=1).run
    (run.folder / ".lock").write_text(f"1\n{note_for_joiners(RayOptions())}\n")
    faults = {"call": "loraloom.session.provenance:run_split", "number": 1, **gate(tmp_path, "")}
    argv = [*plain(recipe, tmp_path), "--resume", run.folder]
    holder = warm.start(*argv, cwd=tmp_path, faults=faults)
    holder.until((tmp_path / "reached").exists)
    joiner = joined(warm, tmp_path)
    (tmp_path / "go").touch()
    assert (holder.wait().code, joiner.wait().code) == (0, 0)


def test_halving_judges_the_trials_of_all_workers_by_the_same_figures(
    warm: Warm, recipe: Path, tmp_path: Path
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING, "--halving")
    joiner = joined(warm, tmp_path)
    (tmp_path / "go").touch()
    assert (holder.wait().code, joiner.wait().code) == (0, 0)
    trials = json.loads((tmp_path / "run" / "search.json").read_text())["trials"]
    assert {trial["status"] for trial in trials} == {"done", "pruned"}
    assert all("25" in trial["rungs"] for trial in trials)
    done = [trial for trial in trials if trial["status"] == "done"]
    assert all(trial["steps"] == 8 and set(trial["rungs"]) == {"25", "50"} for trial in done)


@pytest.mark.parametrize("gone", ["worker.beat", "journal.log"])
def test_a_folder_that_is_damaged_costs_only_its_worker(
    warm: Warm, searched: SearchView, recipe: Path, tmp_path: Path, gone: str
) -> None:
    holder = held(warm, recipe, tmp_path, IN_TRAINING)
    joiner = joined(warm, tmp_path)
    (folder,) = (tmp_path / "run" / "workers").iterdir()
    (folder / gone).write_bytes(b"{")
    os.kill(joiner.pid, signal.SIGKILL)
    joiner.wait()
    (tmp_path / "go").touch()
    assert holder.wait().code == 0
    assert_same(tmp_path / "run", searched(), set())

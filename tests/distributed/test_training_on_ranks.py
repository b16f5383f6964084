"""One rank or several: the same recipe, the same run, and the same training within the order of sums."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from loraloom.run.folder import Run
from tests.distributed.launched import RankGroup, assert_same_training, free_port
from tests.faults.reference import STEP, is_long, newest_step
from tests.faults.training import events, write_training
from tests.faults.warm import Started, Warm


def files_of(run: Path) -> set[str]:
    return {str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()}


@pytest.mark.parametrize("size", [2, 4, 5] if is_long() else [2])
def test_several_processes_train_what_one_does(
    size: int, alone: Path, shared_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    leader, *followers = ranks.call("train", shared_recipe, "--out", run, cwd=tmp_path, size=size)
    assert leader.code == 0, leader.stderr
    assert [(each.code, each.stdout, each.stderr) for each in followers] == [(0, "", "")] * (size - 1)
    assert_same_training(run, alone)
    assert files_of(run) == files_of(alone)
    assert json.loads((run / "provenance.json").read_text())["processes"] == size
    # Nothing says that the folder was in use: the same commands work on it.
    assert Run(run).is_finished


@pytest.mark.parametrize("size", [2, 4] if is_long() else [2])
def test_a_base_that_ranks_share_trains_the_same(
    size: int, alone: Path, shared_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    run, shared = tmp_path / "run", ["--set", "training.shard_base=true"]
    leader, *followers = ranks.call("train", shared_recipe, *shared, "--out", run, cwd=tmp_path, size=size)
    assert leader.code == 0, leader.stderr
    assert [(each.code, each.stderr) for each in followers] == [(0, "")] * (size - 1)
    assert_same_training(run, alone)
    plans = [json.loads((each / "provenance.json").read_text())["plan"] for each in (run, alone)]
    ours, whole = (plan["memory"]["base_bytes"] for plan in plans)
    adapters = (alone / "adapters").glob("*/adapter_model.safetensors")
    gradients = sum(tensor.nbytes for file in adapters for tensor in load_file(file).values())
    assert plans[0]["traffic"]["num_ranks"] == size
    assert plans[0]["traffic"]["reduced_bytes"] == gradients
    assert ours < plans[0]["traffic"]["gathered_bytes"] < 2 * whole
    assert "of gradients summed per step" in leader.stderr
    assert "traffic" not in plans[1]
    assert ours < whole * (1 / size + 0.1)  # norms are whole on each rank


def test_rows_in_files_are_written_by_one_rank_and_read_by_all(
    alone: Path, shared_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    run, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    words = ["train", shared_recipe, "--set", "data.keep_rows=disk", "--out", run]
    leader, follower = ranks.call(*words, cwd=tmp_path, TMPDIR=str(temporary))
    assert leader.code == 0, leader.stderr
    assert (follower.code, follower.stderr) == (0, "")
    assert_same_training(run, alone)
    assert any((run / "rows").iterdir())
    assert not list(temporary.iterdir())  # the other rank has made no rows of its own


@pytest.mark.skipif(not is_long(), reason="a long one")
@pytest.mark.parametrize("family", ["bart", "marian", "umt5", "t5gemma", "t5gemma2"])
def test_every_family_can_be_shared(
    family: str, tiny: Callable[[str], Path], ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    recipe = write_training(tmp_path, tiny(family), keep=2)
    short = ["--set", "training.base_dropout=0", "--set", "data.retain=null"]
    ended = warm.call("train", recipe, *short, "--out", tmp_path / "alone", cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    shared = [*short, "--set", "training.shard_base=true", "--out", tmp_path / "run"]
    leader, _ = ranks.call("train", recipe, *shared, cwd=tmp_path)
    assert leader.code == 0, leader.stderr
    assert_same_training(tmp_path / "run", tmp_path / "alone")


def held(ranks: RankGroup, recipe: Path, run: Path, call: str, number: int, rank: int) -> list[Started]:
    """Two ranks, one of which waits at a call until the file `go` is there."""
    reached = run.parent / "reached"
    faults = {"call": call, "number": number, "reached": str(reached), "go": str(run.parent / "go")}
    started = ranks.start("train", recipe, "--out", run, cwd=run.parent, faults={rank: faults})
    started[rank].until(reached.exists)
    return started


def test_stopped_on_two_it_resumes_on_one_and_says_so(
    alone: Path, shared_recipe: Path, ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    """A signal to one rank stops all of them after the same step, as when torchrun sends it to all."""
    run = tmp_path / "run"
    started = held(ranks, shared_recipe, run, STEP, 8, rank=1)
    os.kill(started[1].pid, signal.SIGTERM)
    (tmp_path / "go").touch()
    leader, follower = (each.wait() for each in started)
    assert (leader.code, follower.code) == (128 + signal.SIGTERM,) * 2, leader.stderr + follower.stderr
    assert "stopped and saved after step" in leader.stderr
    assert follower.stderr == ""
    step = newest_step(run)
    assert step
    ended = warm.call("train", "--resume", run, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert f"resuming after step {step}" in ended.stderr
    assert "processes: 1, previously 2" in str(events(run, "resume")[-1]["reason"])
    assert_same_training(run, alone)


@pytest.mark.skipif(not is_long(), reason="a long one")
def test_killed_on_one_it_resumes_on_two(
    alone: Path, shared_recipe: Path, ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    faults = {"call": STEP, "number": 12}
    assert (
        warm.call("train", shared_recipe, "--out", run, cwd=tmp_path, faults=faults).code == -signal.SIGKILL
    )
    leader, follower = ranks.call("train", "--resume", run, cwd=tmp_path)
    assert leader.code == 0, leader.stderr
    assert (follower.code, follower.stderr) == (0, "")
    assert "processes: 2, previously 1" in str(events(run, "resume")[-1]["reason"])
    assert_same_training(run, alone)
    again, _ = ranks.call("train", "--resume", run, cwd=tmp_path)
    assert again.code == 0
    assert "it is finished and intact" in again.stderr


@pytest.mark.parametrize("rank", [0, 1] if is_long() else [1])
def test_a_rank_that_is_killed_ends_the_run_with_its_number(
    rank: int, short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    faults = {rank: {"call": STEP, "number": 4}}
    ended = ranks.call("train", short_recipe, "--out", run, cwd=tmp_path, faults=faults)
    assert ended[rank].code == -signal.SIGKILL
    other = ended[1 - rank]
    assert other.code == 1
    assert f"rank {rank} ended" in other.stderr
    assert "Traceback" not in other.stderr
    # For its fourth step the leader needed nothing more of the other rank, and saved it.
    assert newest_step(run) == (4 if rank else 2)
    if is_long():
        leader, _ = ranks.call("train", short_recipe, "--resume", run, cwd=tmp_path)
        assert leader.code == 0, leader.stderr
        assert len(events(run, "train")) == 6


def test_a_rank_that_is_killed_while_others_gather_weights_ends_the_run_with_a_message(
    short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    shared = ["--set", "training.shard_base=true", "--out", tmp_path / "run"]
    faults = {1: {"call": "loraloom.training.lockstep:run_pass", "number": 4}}
    leader, _ = ranks.call("train", short_recipe, *shared, cwd=tmp_path, faults=faults)
    assert leader.code == 1
    assert "ended without giving a reason" in leader.stderr
    assert "Traceback" not in leader.stderr


def test_a_rank_that_hangs_is_named_after_a_bounded_wait(
    short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    faults = {
        1: {"call": STEP, "number": 2, "reached": str(tmp_path / "reached"), "go": str(tmp_path / "go")}
    }
    run = tmp_path / "run"
    started = ranks.start("train", short_recipe, "--out", run, cwd=tmp_path, faults=faults, timeout="5")
    leader = started[0].wait()
    (tmp_path / "go").touch()
    started[1].wait()
    assert leader.code == 1
    assert "rank 1 did not answer within 5 s" in leader.stderr
    assert "LORALOOM_RANK_TIMEOUT" in leader.stderr
    assert "Traceback" not in leader.stderr


def changed_recipe(recipe: Path, folder: Path) -> list[str | Path]:
    other = folder / "other.yaml"
    text = recipe.read_text(encoding="utf-8").replace("data.json", f"{recipe.parent}/data.json")
    other.write_text(text.replace("1.0e-2", "2.0e-2"), encoding="utf-8")
    return ["train", other]


def changed_data(recipe: Path, folder: Path) -> list[str | Path]:
    (folder / recipe.name).write_bytes(recipe.read_bytes())
    rows = json.loads((recipe.parent / "data.json").read_text(encoding="utf-8"))
    (folder / "data.json").write_text(json.dumps([*rows, {**rows[0], "instruction": "?"}]), encoding="utf-8")
    return ["train", folder / recipe.name]


DIFFERENCES = {"learning_rate": changed_recipe, "data.json": changed_data}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_rank_with_another_recipe_or_data_is_found_before_the_first_step(
    what: str, short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    make: Callable[[Path, Path], list[str | Path]] = DIFFERENCES[what]
    own: dict[int, Any] = {1: make(short_recipe, tmp_path)}
    run = tmp_path / "run"
    leader, follower = ranks.call("train", short_recipe, "--out", run, cwd=tmp_path, own=own)
    assert (leader.code, follower.code) == (1, 1)
    said = leader.stderr.splitlines()[-1]
    assert "rank 1 ended" in leader.stderr
    assert what in leader.stderr, said
    assert "differs from rank 0" in leader.stderr
    assert "Traceback" not in leader.stderr + follower.stderr
    assert not run.exists()


def test_an_address_that_does_not_answer_and_a_port_in_use(
    shared_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        leader = ranks.start("train", shared_recipe, cwd=tmp_path, port=port, timeout="1", size=2)[0].wait()
    assert leader.code == 1
    assert f"127.0.0.1:{port}: the port at which the processes meet is in use" in leader.stderr
    lonely = ranks.start(
        "train", shared_recipe, cwd=tmp_path, port=free_port(), timeout="1", own={0: ["runs"]}
    )
    assert lonely[0].wait().code == 0
    ended = lonely[1].wait()
    assert ended.code == 1
    assert "at the address where the processes meet" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_other_verbs_are_left_to_rank_0(alone: Path, ranks: RankGroup, tmp_path: Path) -> None:
    leader, follower = ranks.call("runs", cwd=alone.parent)
    assert (leader.code, follower.code) == (0, 0)
    assert "only `train`, `compare` and `predict` share their work" in leader.stderr
    assert follower.stdout == follower.stderr == ""

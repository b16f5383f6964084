"""Answers of a base that ranks divide: those of one process, stopped and resumed, and a rank that ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from loraloom.distributed.launch import Launch
from loraloom.distributed.process_group import ProcessGroup
from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.session import provenance as origin
from loraloom.session.answering_ranks import follow_answers
from loraloom.session.rank_agreement import Agreement
from loraloom.training.signals import StopRequest
from tests.distributed.launched import RankGroup
from tests.faults.reference import is_long
from tests.faults.warm import Warm

ANSWER = "loraloom.session.shared_passes:answer"


def trained(recipe: Path, warm: Warm, name: str, *sets: str) -> Path:
    """A run with two adapters, trained by one process, whose recipe divides the base."""
    run = recipe.parent / name
    words = ["training.shard_base=true", "training.max_steps=2", "data.retain=retain.json", *sets]
    changes = [word for each in words for word in ("--set", each)]
    experiments = 'experiments={"plain": {}, "dora": {"lora": {"use_dora": true}}}'
    ended = warm.call("train", recipe, *changes, "--set", experiments, "--out", run, cwd=run.parent)
    assert ended.code == 0, ended.stderr
    return run


@pytest.fixture(scope="module")
def divided(short_recipe: Path, warm: Warm) -> Path:
    """A run that answers greedily, four rows between two writes to disk."""
    return trained(short_recipe, warm, "divided", "generation.batch_size=1")


@pytest.fixture(scope="module")
def with_beams(short_recipe: Path, warm: Warm) -> Path:
    """A run that answers with beams."""
    return trained(short_recipe, warm, "with-beams", "generation.num_beams=2")


@pytest.fixture(scope="module")
def rows(divided: Path) -> Path:
    """Eight of the data's rows, with answers."""
    file = divided.with_name("asked.json")
    content = json.loads((divided.parent / "data.json").read_text(encoding="utf-8"))
    file.write_text(json.dumps(content[:8], ensure_ascii=False), encoding="utf-8")
    return file


def copied(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / run.name))


def assert_same_comparison(run: Path, expected: Path, name: str) -> None:
    """Answers are equal; figures and movement as far as the order of sums allows."""
    ours, theirs = (json.loads((each / f"compare/{name}.json").read_text()) for each in (run, expected))
    assert ours["rows"] == theirs["rows"]
    assert ours["models"].keys() == theirs["models"].keys() == {"base", "plain", "dora"}
    for model, wanted in theirs["models"].items():
        assert ours["models"][model]["figures"] == pytest.approx(wanted["figures"], abs=1e-5)
        if model != "base":
            total = wanted["movement"]["total"]
            assert ours["models"][model]["movement"]["total"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("made", ["divided", "with_beams"])
def test_a_comparison_on_a_divided_base_is_that_of_one_process(
    made: str, request: Any, ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    run, whole = copied(request.getfixturevalue(made), tmp_path), request.getfixturevalue(made)
    expected = warm.call("compare", whole, cwd=tmp_path)
    assert expected.code == 0, expected.stderr
    leader, follower = ranks.call("compare", run, cwd=tmp_path)
    assert leader.code == 0, leader.stderr
    assert (follower.code, follower.stdout, follower.stderr) == (0, "", "")
    assert leader.stdout == expected.stdout
    assert "retain_loss" in json.loads((run / "compare/eval.json").read_text())["models"]["dora"]["figures"]
    assert_same_comparison(run, whole, "eval")
    assert [file.name for file in (run / "compare").iterdir()] == ["eval.json"]


def test_a_prediction_on_a_divided_base_is_that_of_one_process(
    divided: Path, rows: Path, ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    words = ["predict", divided, rows, "--experiment", "dora"]
    expected = warm.call(*words, cwd=tmp_path)
    leader, follower = ranks.call(*words, cwd=tmp_path)
    assert leader.code == 0, leader.stderr
    assert leader.stdout == expected.stdout
    again = "Next: loraloom compare", "Next: torchrun --nproc-per-node 2 -m loraloom compare"
    assert leader.stderr == expected.stderr.replace(*again)
    assert len(leader.stdout.splitlines()) == 8
    assert (follower.code, follower.stdout, follower.stderr) == (0, "", "")


def test_a_signal_to_one_rank_stops_all_and_the_comparison_resumes(
    divided: Path, rows: Path, ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    run, whole, words = copied(divided, tmp_path), tmp_path / "whole", ["--prompts", rows, "--name", "asked"]
    shutil.copytree(divided, whole)
    reached, go = tmp_path / "reached", tmp_path / "go"
    faults = {1: {"call": ANSWER, "number": 2, "reached": str(reached), "go": str(go)}}
    started = ranks.start("compare", run, *words, cwd=tmp_path, faults=faults)
    started[1].until(reached.exists)
    os.kill(started[1].pid, signal.SIGTERM)
    go.touch()
    leader, follower = (each.wait() for each in started)
    assert (leader.code, follower.code) == (128 + signal.SIGTERM,) * 2, leader.stderr + follower.stderr
    assert "stopped after 4 of 8 rows; run the same command again to resume" in leader.stderr
    assert follower.stdout == follower.stderr == ""
    ended = warm.call("compare", run, *words, cwd=tmp_path)  # on one device, which may be a larger one
    assert ended.code == 0, ended.stderr
    assert "resuming after 4 rows" in ended.stderr
    assert warm.call("compare", whole, *words, cwd=tmp_path).code == 0
    assert_same_comparison(run, whole, "asked")


@pytest.mark.parametrize("rank", [0, 1] if is_long() else [1])
def test_a_rank_that_is_killed_is_named_and_answers_are_kept(
    rank: int, divided: Path, rows: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    run, faults = copied(divided, tmp_path), {rank: {"call": ANSWER, "number": 2}}
    ended = ranks.call("compare", run, "--prompts", rows, cwd=tmp_path, faults=faults)
    assert ended[rank].code == -signal.SIGKILL
    other = ended[1 - rank]
    assert other.code == 1
    assert f"rank {rank} ended" in other.stderr
    assert "Traceback" not in other.stderr
    assert other.stdout == ""
    (partial,) = (run / "compare").glob(".*.partial.jsonl")
    assert len(partial.read_text().splitlines()) == 2  # a header, and a chunk of four rows


def test_without_shard_base_rank_0_answers_alone_and_says_so(
    alone: Path, rows: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    reached, go = tmp_path / "reached", tmp_path / "go"
    faults = {0: {"call": ANSWER, "number": 1, "reached": str(reached), "go": str(go)}}
    words = ["predict", alone, rows, "--experiment", "short"]
    started = ranks.start(*words, cwd=tmp_path, faults=faults)
    started[0].until(reached.exists)
    follower = started[1].wait()
    assert started[0].stdout.read_text(encoding="utf-8") == ""  # it does not wait for the leader's work
    go.touch()
    leader = started[0].wait()
    assert (leader.code, len(leader.stdout.splitlines())) == (0, 8), leader.stderr
    why = "the base is divided only for a run with training.shard_base"
    assert f"rank 0 answers alone, and the other 1 end: {why}" in leader.stderr
    assert (follower.code, follower.stdout, follower.stderr) == (0, "", "")


class ToldRanks(Ranks):
    """A follower, and what its leader has announced."""

    rank, size = 1, 2

    def __init__(self, announced: dict[str, Any]) -> None:
        self.announced = announced

    def wait_for(self, name: str) -> Any:
        return self.announced[name]

    def exchange(self, value: Any) -> list[Any]:
        asked, _ = value
        return [[asked, "of other tokens"], value]


@pytest.fixture
def two_ranks() -> Iterator[None]:
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)  # type: ignore[no-untyped-call]
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("two_ranks")
def test_a_rank_with_another_base_or_version_is_refused(divided: Path) -> None:
    versions = origin.versions()
    announced = {
        "recipe": (divided / "recipe.yaml").read_text(encoding="utf-8"),
        "folder": str(divided.parent),
        "base": None,
        "choices": {"dtype": "float32", "device": "cpu", "threads": "1"},
        "versions": {**versions, "transformers": "4.0"},
    }
    with pytest.raises(RunError, match=r"transformers: differs from rank 0 .*Allowed: 4\.0"):
        follow_answers(ToldRanks({"answering": announced}), StopRequest())
    told = {"answering": {**announced, "versions": versions}, "base": {"base": "another"}}
    with pytest.raises(RunError, match=r"base: differs from rank 0 .*Allowed: another"):
        follow_answers(ToldRanks(told), StopRequest())


def test_ranks_that_choose_different_tokens_are_named() -> None:
    """Otherwise one of them would end a row before the others, and wait for other weights than they."""
    with pytest.raises(RunError, match="the answers of rank 1 differ from those of rank 0"):
        Agreement(ToldRanks({}), StopRequest()).compare_newest([[7]])


def test_a_rank_that_works_for_long_gives_signs_of_life_until_it_is_done() -> None:
    """As while a reader of the answers pauses; others wait for as long as signs come."""
    signs = threading.Semaphore(0)
    group: Any = ProcessGroup.__new__(ProcessGroup)
    group.meeting = SimpleNamespace(launch=Launch(timeout=0.04), count=signs.release)
    with group.staying_alive():
        assert all(signs.acquire(timeout=60) for _ in range(3))
    while signs.acquire(blocking=False):
        pass
    assert not signs.acquire(timeout=0.1)

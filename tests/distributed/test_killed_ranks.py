"""A rank that is killed is named although torchrun asks the others to stop as soon as it has ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from tests.distributed.launched import RankGroup

EARLY = "loraloom.session.material:load_base"  # before the first step


def waiting(folder: Path, rank: int) -> dict[str, Any]:
    """Let a rank wait until the file `go` is there, which never comes."""
    return {"call": EARLY, "number": 1, "reached": str(folder / f"reached-{rank}"), "go": str(folder / "go")}


@pytest.mark.parametrize("killed", [0, 1])
def test_the_rank_that_was_killed_is_named_once_by_another(
    killed: int, short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun's
    faults = {rank: waiting(tmp_path, rank) for rank in range(3)}
    started = ranks.start(
        *("train", short_recipe, "--out", tmp_path / "run"),
        cwd=tmp_path,
        size=3,
        port=agent.port,
        faults=faults,
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    started[0].until((tmp_path / "reached-0").exists)
    os.kill(started[killed].pid, signal.SIGKILL)
    assert started[killed].wait().code == -signal.SIGKILL
    others = [each for rank, each in enumerate(started) if rank != killed]
    for each in others:
        os.kill(each.pid, signal.SIGTERM)
    ended = [each.wait() for each in others]
    assert [each.code for each in ended] == [1, 1]
    said = "".join(each.stderr for each in ended)
    assert said.count(f"rank {killed} ended without giving a reason") == 1, said
    assert "resume the run or repeat the command" in said


def test_ranks_that_are_only_asked_to_stop_are_not_taken_for_killed(
    short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    faults = {0: waiting(tmp_path, 0)}
    started = ranks.start(
        *("train", short_recipe, "--out", tmp_path / "run"),
        cwd=tmp_path,
        size=2,
        port=agent.port,
        faults=faults,
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    started[0].until((tmp_path / "reached-0").exists)
    os.kill(started[1].pid, signal.SIGTERM)
    follower = started[1].wait()
    os.kill(started[0].pid, signal.SIGTERM)
    leader = started[0].wait()
    assert (leader.code, follower.code) == (128 + signal.SIGTERM,) * 2, leader.stderr + follower.stderr
    assert "stopped" in leader.stderr
    assert "ended without giving a reason" not in leader.stderr + follower.stderr

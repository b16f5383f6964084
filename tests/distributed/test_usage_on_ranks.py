"""What is wrong with the words of a command line is said once, and all ranks end with its status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributed.launched import RankGroup
from tests.faults.warm import Warm


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--bogus"],
        ["compare", "runs/first", "--bogus"],
        ["predict", "runs/first"],
        ["compare", "missing"],
    ],
    ids=" ".join,
)
def test_a_usage_error_is_that_of_one_process_and_said_once(
    words: list[str], ranks: RankGroup, warm: Warm, tmp_path: Path
) -> None:
    expected = warm.call(*words, cwd=tmp_path)
    assert expected.code in (1, 2)
    leader, *followers = ranks.call(*words, cwd=tmp_path, size=3)
    assert leader == expected
    assert [(each.code, each.stdout, each.stderr) for each in followers] == [(expected.code, "", "")] * 2


def test_help_is_printed_once(ranks: RankGroup, warm: Warm, tmp_path: Path) -> None:
    expected = warm.call("train", "--help", cwd=tmp_path)
    assert "--resume" in expected.stdout
    leader, follower = ranks.call("train", "--help", cwd=tmp_path)
    assert leader == expected
    assert (follower.code, follower.stdout, follower.stderr) == (0, "", "")


def test_the_leader_names_a_rank_whose_command_line_is_wrong(
    short_recipe: Path, ranks: RankGroup, tmp_path: Path
) -> None:
    words = ["train", short_recipe, "--out", tmp_path / "run"]
    leader, follower = ranks.call(*words, cwd=tmp_path, own={1: [*words, "--bogus"]})
    assert (leader.code, follower.code) == (1, 2)
    assert "rank 1 ended: No such option: --bogus" in leader.stderr
    assert follower.stderr == ""
    assert not (tmp_path / "run").exists()

"""What is wrong with the words of a command line is said once, and all ranks end with its status."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loraloom.cli.app import _run
from loraloom.distributed import joining
from loraloom.distributed.launch import Launch
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


@pytest.mark.parametrize("words", [["merge", "--bogus"], ["bogus"], [], ["merge", "missing", "out"]], ids=str)
def test_a_verb_that_one_process_runs_waits_for_no_other(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The others have ended by then."""

    def meet(launch: Launch) -> None:
        raise AssertionError("it waits for ranks")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(joining, "_meet", meet)
    monkeypatch.setattr(sys, "argv", ["loraloom", *words])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", **place}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        _run()
    assert ended.value.code in (1, 2)
    assert "rank 0 runs this command alone" in capsys.readouterr().err

"""Advice to resume names the command that can: a search, a training, or neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.run.folder import Run
from loraloom.run.resuming import how_to_resume, is_range_test, is_search

OLD = Path(__file__).resolve().parents[1] / "old_runs" / "v0.1"


def test_the_command_depends_on_the_kind_of_run() -> None:
    search, training = Run(OLD / "search"), Run(OLD / "finished")
    assert is_search(search)
    assert how_to_resume(search).startswith("run its `loraloom search` command with `--resume ")
    assert not is_search(training)
    assert how_to_resume(training) == f"run `loraloom train --resume {training.folder}`"
    assert is_range_test(Run(OLD / "range_test"))
    assert not is_range_test(training)


def test_a_folder_with_a_space_can_be_pasted(tmp_path: Path) -> None:
    assert how_to_resume(Run(tmp_path / "my run")).endswith(f"--resume '{tmp_path / 'my run'}'`")


@pytest.mark.parametrize(
    ("name", "following"), [("finished", "loraloom compare"), ("range_test", "loraloom train RECIPE")]
)
def test_the_list_of_runs_does_not_advise_to_compare_a_range_test(
    tmp_path: Path, name: str, following: str
) -> None:
    shutil.copytree(OLD / name, tmp_path / name)
    listed = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert listed.exit_code == 0, listed.output
    assert f"Next: {following}" in listed.stderr


def test_a_damaged_search_is_not_to_be_trained(tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD / "search", tmp_path / "search"))
    (adapter, *_) = sorted((run / "adapters").glob("*/adapter_model.safetensors"))
    adapter.write_bytes(adapter.read_bytes()[:20])
    ended = CliRunner().invoke(app, ["report", str(run), "--out", "-"])
    assert ended.exit_code != 0
    said = str(ended.exception)
    assert "run its `loraloom search` command with `--resume" in said
    assert "loraloom train" not in said
